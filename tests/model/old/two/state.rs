//! Everything that is to be known at one instant of two admins, their database and the validator between them.

use std::collections::VecDeque;
use std::time::Duration;

use keyward_domain::{AdminLife, Revision};
use keyward_replica::{
    Barrier, Basis, Cleared, Enforcement, Holder, HolderSession, Instant, SessionId, Sessions, Settled, Standing, Watch,
};

use crate::state::{BEFORE, DEACTIVATION, Down, at};
use crate::two::world::World;

/// The whole.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) admins: [Admin; 2],
    /// Each life that may have leases in use, as the database has it.
    pub(crate) rows: Vec<Row>,
    /// Lives so far.
    pub(crate) lives: u8,
    pub(crate) call: Call,
    /// What the other admin has answered to the one that waits, on its way.
    pub(crate) answer: Option<(AdminLife, Cleared)>,
    pub(crate) validator: Validator,
    /// The validator could answer DEACTIVATED while Deactivate ran; told only where a world asks for it.
    pub(crate) rejected: bool,
}

/// Deactivate, as its client sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Call {
    /// Not called.
    Ahead,
    /// Committed, and waited for at that admin.
    Waiting(usize),
    /// It has returned ENFORCED.
    Returned,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Row {
    pub(crate) life: AdminLife,
    /// Whose life it is, or was.
    pub(crate) admin: usize,
    /// How many heartbeats, as each admin counts them.
    pub(crate) beats: [i64; 2],
}

/// One admin's process.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Admin {
    pub(crate) life: AdminLife,
    pub(crate) sessions: Sessions,
    /// It has come as far as the deactivation.
    pub(crate) applied: bool,
    pub(crate) basis: Basis,
    pub(crate) watch: Watch,
    pub(crate) settled: Settled,
    /// A fence, as long as its client has not gone elsewhere.
    pub(crate) barrier: Option<Barrier>,
    /// A heartbeat that has no answer yet.
    pub(crate) beat: Option<Beat>,
    /// Heartbeats that `watch` has seen.
    pub(crate) seen: Vec<(AdminLife, i64)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Beat {
    Sent(Sent),
    /// What it returns is on its way.
    Committed {
        sent: Sent,
        newest: Revision,
        others: Vec<(AdminLife, i64)>,
    },
    /// The row was gone.
    Refused,
}

/// When a heartbeat was sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    /// Before the deactivation was committed, be it in the same tick.
    pub(crate) before: bool,
}

impl Sent {
    /// The same on a clock that tells the two apart.
    pub(crate) fn asked(self) -> Instant {
        Instant::from_nanos(self.at.as_nanos() - i64::from(self.before))
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Validator {
    pub(crate) holder: Holder,
    /// What its table is a picture of; `None`: it has none yet.
    pub(crate) table: Option<Revision>,
    /// To each admin at most one.
    pub(crate) streams: [Option<Stream>; 2],
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Stream {
    pub(crate) session: HolderSession,
    /// The validator's table is whole in this session.
    pub(crate) complete: bool,
    /// Renewals without a grant; they are numbered from 0.
    pub(crate) renewals: u64,
    pub(crate) down: VecDeque<Down>,
}

/// The only session that an admin has with the validator, as far as it has a stream.
pub(crate) const SESSION: SessionId = SessionId(0);

pub(crate) const fn life(number: u8) -> AdminLife {
    AdminLife::from_bytes([number; 16])
}

pub(crate) fn ago(duration: Duration) -> Instant {
    Instant::from_nanos(-i64::try_from(duration.as_nanos()).unwrap())
}

impl Validator {
    pub(crate) fn fresh() -> Self {
        Self { holder: Holder::default(), table: None, streams: [None, None] }
    }

    /// Whether some reading of its clock would let it answer.
    pub(crate) fn is_leased(&self) -> bool {
        at(0) < self.holder.until()
    }

    /// Whether it could by what that admin has granted in a session that is open.
    pub(crate) fn is_leased_by(&self, admin: usize) -> bool {
        self.streams[admin].as_ref().is_some_and(|stream| at(0) < self.holder.lease_of(stream.session))
    }

    /// Whether it would be answered VALID now, from before the deactivation.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_leased() && self.table == Some(BEFORE)
    }

    fn canonical(&mut self, now: Instant, longest: Duration) {
        let open: Vec<_> = self.streams.iter().flatten().map(|stream| stream.session).collect();
        let (holder, seqs) = self.holder.canonical(now, longest, &open);
        self.holder = holder;
        for (n, (stream, seqs)) in (1..).zip(self.streams.iter_mut().flatten().zip(seqs)) {
            stream.session = HolderSession(n);
            stream.renewals = seqs.len() as u64;
            let renumbered = |seq: u64| seqs.binary_search(&seq).ok().map(|n| n as u64);
            for down in &mut stream.down {
                if let Down::Grant { seq, .. } = down {
                    *seq = seq.and_then(renumbered);
                }
            }
        }
    }
}

impl Admin {
    /// A process that has just begun, over what the database has.
    pub(crate) fn fresh(life: AdminLife, applied: bool, world: &World) -> Self {
        let mut settled = Settled::default();
        if applied {
            settled.applied(DEACTIVATION, at(0));
        }
        Self {
            life,
            sessions: Sessions::new(world.policy(), None, at(0)),
            applied,
            basis: Basis::new(if applied { DEACTIVATION } else { BEFORE }),
            watch: Watch::default(),
            settled,
            barrier: None,
            beat: None,
            seen: Vec::new(),
        }
    }

    /// How its own validators stand to the deactivation.
    pub(crate) fn own(&self) -> Enforcement {
        self.sessions.enforcement(DEACTIVATION, at(0))
    }

    /// A fence begins, and waits from when the deactivation was committed for certain.
    pub(crate) fn wait(&mut self) {
        self.barrier = Some(Barrier::new(self.settled.committed_before(DEACTIVATION).unwrap_or(at(0))));
    }

    /// Whether its fence finds the deactivation enforced, and if so whether by acks.
    pub(crate) fn enforced(&self) -> Option<bool> {
        let settled = self.settled.look(DEACTIVATION);
        let standing = self.barrier.as_ref().map(|barrier| barrier.standing(at(0)));
        let own = self.own();
        settled.or(match standing {
            Some(Standing::Clear) if self.applied && own.missing == 0 => Some(own.lapsed == 0),
            Some(Standing::WaitedOut) => Some(false),
            _ => None,
        })
    }

    /// Nothing is asked any more but what it grants.
    fn forget_the_wait(&mut self, connected: bool) {
        self.sessions = Sessions::new(*self.sessions.policy(), None, at(0));
        if connected {
            self.sessions.join(SESSION);
        }
        (self.watch, self.settled, self.barrier) = (Watch::default(), Settled::default(), None);
        (self.life, self.seen) = (life(0), Vec::new());
        match &mut self.beat {
            Some(Beat::Committed { others, sent, .. }) => {
                others.clear();
                sent.before = false;
            }
            Some(Beat::Sent(sent)) => sent.before = false,
            Some(Beat::Refused) | None => {}
        }
    }

    fn canonical(&mut self, now: Instant, world: &World, returned: bool) {
        let policy = world.policy();
        // Nothing can be granted on a basis so old that no more than the margin is left of a lease.
        let no_grant = ago(policy.lease.saturating_sub(policy.clock_margin));
        // Whoever was silent for longer may be struck off, and whatever was committed before is waited out.
        let long_ago = ago(policy.wait_out() + Duration::from_secs(1));
        if self.applied {
            self.sessions = self.sessions.after_the_last_delta();
        }
        self.sessions = self.sessions.canonical(now, |_| SESSION);
        self.basis = self.basis.canonical(now, no_grant);
        // An answer may say late who was silent when it was asked for.
        let late = if world.split.contains(&true) { policy.wait_out() } else { Duration::ZERO };
        self.watch = self.watch.canonical(now, ago(policy.wait_out() + Duration::from_secs(1) + late));
        self.settled = self.settled.canonical(now, long_ago);
        self.barrier = self.barrier.take().map(|barrier| barrier.canonical(now, long_ago));
        if let Some(Beat::Sent(sent) | Beat::Committed { sent, .. }) = &mut self.beat {
            let useless = if returned { no_grant } else { long_ago };
            sent.at = Instant::from_nanos(sent.at.as_nanos() - now.as_nanos()).max(useless);
        }
    }
}

impl State {
    /// Two admins that have just begun, and a validator that knows nothing. `late`: the second has no row yet.
    pub(crate) fn first(world: &World, late: bool) -> Self {
        let rows = (0..2).map(|admin| Row { life: life(admin as u8 + 1), admin, beats: [0; 2] });
        Self {
            admins: [1, 2].map(|n| Admin::fresh(life(n), false, world)),
            rows: rows.take(if late { 1 } else { 2 }).collect(),
            lives: 2,
            call: Call::Ahead,
            answer: None,
            validator: Validator::fresh(),
            rejected: false,
        }
    }

    /// The admin at which somebody waits for the deactivation.
    pub(crate) fn waiting(&self) -> Option<usize> {
        if let Call::Waiting(admin) = self.call { Some(admin) } else { None }
    }

    /// The one state that stands for all that differ from this one in the past only. `passed`: ticks since the last.
    pub(crate) fn canonical(mut self, passed: u64, world: &World) -> Self {
        let returned = self.call == Call::Returned;
        if returned {
            self.forget_the_wait();
        }
        for (n, admin) in self.admins.iter_mut().enumerate() {
            admin.canonical(at(passed), world, returned);
            // Nobody will wait there.
            if !world.retries && self.call == Call::Waiting(1 - n) {
                admin.settled = Settled::default();
            }
        }
        self.count_beats_anew();
        self.validator.canonical(at(passed), world.policy().lease);
        self
    }

    /// Once Deactivate has returned, only grants matter, and those depend on no more than on what is applied and since
    /// when. That a row is gone would only end them.
    fn forget_the_wait(&mut self) {
        for (admin, stream) in self.admins.iter_mut().zip(&self.validator.streams) {
            admin.forget_the_wait(stream.is_some());
        }
        self.rows.clear();
        (self.lives, self.answer, self.rejected) = (0, None, false);
    }
}
