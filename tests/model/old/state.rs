//! Everything that is to be known at one instant of one admin and its validators.

use std::collections::VecDeque;
use std::time::Duration;

use keyward_domain::Revision;
use keyward_replica::{Enforcement, Holder, HolderSession, Instant, Policy, SessionId, Sessions};

use crate::shared::Shared;

/// Before the deactivation.
pub(crate) const BEFORE: Revision = Revision(0);
/// The deactivation.
pub(crate) const DEACTIVATION: Revision = Revision(1);

/// A number of ticks as a duration. Every duration of the model is one, so that arithmetic is exact.
pub(crate) const fn ticks(ticks: u64) -> Duration {
    Duration::from_secs(ticks)
}

/// The instant that many ticks from now: each machine's instants are counted from the present.
pub(crate) fn at(tick: u64) -> Instant {
    Instant::default().plus(ticks(tick))
}

/// The whole.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    /// The admin's record.
    pub(crate) sessions: Sessions,
    pub(crate) call: Call,
    /// Set when other admins may use the same database.
    pub(crate) shared: Option<Shared>,
    /// The admin has come as far as the deactivation: its delta is in every queue and in every later snapshot.
    pub(crate) appended: bool,
    pub(crate) validators: Vec<Validator>,
    pub(crate) wrong: Option<Wrong>,
}

/// Deactivate, as its client sees it. An admin that crashes while the client waits is asked again, sooner or later, which
/// is why there is no state for it: the retry finds the deactivation committed, and waits at the new process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Call {
    /// Not called.
    Ahead,
    /// Committed, and to be waited for.
    Waiting,
    /// It has returned ENFORCED.
    Returned,
}

/// What must not be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Wrong {
    /// A call that started after Deactivate had returned was answered VALID.
    StaleAnswer,
    /// Something other than a restart prolonged the wait of a deactivation, or it is longer than D'.
    Prolonged,
    /// A validator missed a change, or heard it twice.
    Gap,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Validator {
    pub(crate) holder: Holder,
    /// Renewals without a grant; they are numbered from 0.
    pub(crate) renewals: u64,
    /// What its table is a picture of; `None`: it has none yet.
    pub(crate) table: Option<Revision>,
    pub(crate) stream: Option<Stream>,
    /// A stream that this validator has ended, unless the admin knows.
    pub(crate) former: Option<Ended>,
    /// A call of ValidateToken that started after Deactivate had returned.
    pub(crate) asked: Option<Asked>,
}

/// A stream as the validator has it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Stream {
    pub(crate) id: SessionId,
    /// The same session, as the validator numbers it.
    pub(crate) session: HolderSession,
    /// The admin has not noticed a break.
    pub(crate) heard: bool,
    /// The admin counts it among its sessions; only a mutant ever delays that.
    pub(crate) joined: bool,
    /// The validator's table is whole in this session.
    pub(crate) complete: bool,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
}

/// What is left of a stream for the admin to hear.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Ended {
    pub(crate) id: SessionId,
    pub(crate) up: VecDeque<Up>,
}

/// What a validator says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Up {
    /// Tells by the way what has been applied.
    Renew {
        seq: u64,
        applied: Revision,
    },
    /// The deactivation is applied.
    Ack,
    Goodbye,
}

/// What the admin says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Down {
    /// The session goes on from what the validator has.
    Welcome,
    Snapshot(Revision),
    /// The deactivation. `acked`: only a mutant acknowledges it before it is applied.
    Delta {
        acked: bool,
    },
    Grant {
        seq: Option<u64>,
        duration: Duration,
    },
}

/// How far a call of ValidateToken has come.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Asked {
    /// It has read until when the lease runs.
    Lease(Instant),
    /// It has found the lease good.
    Clock,
    /// A mutant: it has read the table first.
    Table(Revision),
}

impl Validator {
    /// A process that has just started.
    pub(crate) fn fresh() -> Self {
        Self { holder: Holder::default(), renewals: 0, table: None, stream: None, former: None, asked: None }
    }

    /// Whether some reading of its clock would let it answer.
    pub(crate) fn is_leased(&self) -> bool {
        at(0) < self.holder.until()
    }

    fn canonical(&mut self, now: Instant, longest: Duration) {
        let open: Vec<_> = self.stream.iter().map(|stream| stream.session).collect();
        let (holder, seqs) = self.holder.canonical(now, longest, &open);
        self.holder = holder;
        let seqs = seqs.into_iter().next().unwrap_or_default();
        self.renewals = seqs.len() as u64;
        let renumbered = |seq: u64| seqs.binary_search(&seq).ok().map(|n| n as u64);
        if let Some(stream) = &mut self.stream {
            stream.session = HolderSession(1);
            // A renewal without an anchor can be answered by nothing that counts.
            for up in &mut stream.up {
                if let Up::Renew { seq, .. } = up {
                    *seq = renumbered(*seq).unwrap_or(u64::MAX);
                }
            }
            for down in &mut stream.down {
                if let Down::Grant { seq, .. } = down {
                    *seq = seq.and_then(renumbered);
                }
            }
        }
        if let Some(Asked::Lease(until)) = &mut self.asked {
            *until = at(until.since(now).as_secs());
        }
    }
}

impl State {
    /// An admin over a new database, and validators that know nothing.
    pub(crate) fn first(policy: Policy, validators: usize, shared: bool) -> Self {
        Self {
            sessions: Sessions::new(policy, None, at(0)),
            call: Call::Ahead,
            shared: shared.then(Shared::default),
            appended: false,
            validators: vec![Validator::fresh(); validators],
            wrong: None,
        }
    }

    /// Whether the deactivation, which is waited for, counts as enforced now; if so, by what.
    pub(crate) fn enforced(&self) -> Option<Enforcement> {
        let own = self.sessions.enforcement(DEACTIVATION, at(0));
        let own_is_enough = self.appended && own.missing == 0;
        match &self.shared {
            None => own_is_enough.then_some(own),
            Some(shared) => shared.enforced(own_is_enough, own),
        }
    }

    /// Ticks until the admin would call the deactivation enforced if nothing more were heard.
    pub(crate) fn enforced_in(&self) -> u64 {
        (0..).find(|tick| self.sessions.enforcement(DEACTIVATION, at(*tick)).missing == 0).unwrap_or(u64::MAX)
    }

    /// The one state that stands for all that differ from this one in the past only. `admin` and `validator`: how many
    /// ticks have passed on their clocks. `longest`: no grant is longer.
    pub(crate) fn canonical(mut self, admin: u64, validator: u64, longest: Duration) -> Self {
        if self.call == Call::Returned {
            self.forget_the_wait();
        }
        let names: Vec<_> = self.validators.iter().flat_map(Validator::session_ids).collect();
        let place = |id| names.iter().position(|name| *name == Some(id)).expect("a session without a stream is broken");
        self.sessions = self.sessions.canonical(at(admin), |id| SessionId(place(id) as u64));
        if let Some(shared) = &mut self.shared {
            shared.canonical(at(admin), self.sessions.policy());
        }
        for (v, one) in (0..).zip(&mut self.validators) {
            one.canonical(at(validator), longest);
            one.rename(v);
        }
        self
    }

    /// Once Deactivate has returned, the admin's record is asked for nothing but grants, and those depend on no more than
    /// which sessions have a stream.
    fn forget_the_wait(&mut self) {
        self.sessions = Sessions::new(*self.sessions.policy(), None, at(0));
        if let Some(shared) = &mut self.shared {
            shared.forget_the_wait();
        }
        for validator in &mut self.validators {
            validator.former = None;
            if let Some(stream) = validator.stream.as_mut().filter(|stream| stream.heard && stream.joined) {
                stream.up.retain(|up| *up != Up::Ack);
                self.sessions.join(stream.id);
            }
        }
    }
}

impl Validator {
    /// Sessions that the admin may think it has with this validator.
    fn session_ids(&self) -> [Option<SessionId>; 2] {
        [self.stream.as_ref().map(|stream| stream.id), self.former.as_ref().map(|former| former.id)]
    }

    fn rename(&mut self, v: u64) {
        if let Some(stream) = &mut self.stream {
            stream.id = SessionId(v * 2);
        }
        if let Some(former) = &mut self.former {
            former.id = SessionId(v * 2 + 1);
        }
    }
}
