//! What an admin has to do with a database that others use too. Of the others there is one that matters, and it is far
//! away: the deactivation may be made there, and be waited for by the clock alone.

use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Revision};
use keyward_replica::{Barrier, Basis, Enforcement, Instant, Listing, Policy, Standing, Watch};

use crate::mutants::Mutant;
use crate::state::{BEFORE, Call, DEACTIVATION, State, at, ticks};
use crate::world::World;

/// This life of the admin; and those before it, which began and ended for the others in the same way.
const OWN: AdminLife = AdminLife::from_bytes([1; 16]);
const FORMER: AdminLife = AdminLife::from_bytes([2; 16]);
/// An admin of which nothing else is modelled.
const ELSEWHERE: AdminLife = AdminLife::from_bytes([3; 16]);

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Shared {
    basis: Basis,
    watch: Watch,
    /// A heartbeat that has no answer yet.
    beat: Option<Beat>,
    /// A former life has a row.
    former: bool,
    /// What the deactivation waits for beside this admin's sessions.
    barrier: Option<Barrier>,
    /// It was made at another admin.
    elsewhere: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Beat {
    Sent(Instant),
    /// What it returns is on its way.
    Committed {
        sent: Instant,
        newest: Revision,
        former: bool,
    },
}

impl Beat {
    fn lists_a_former_life(self) -> bool {
        matches!(self, Self::Committed { former: true, .. })
    }
}

fn ago(duration: Duration) -> Instant {
    Instant::from_nanos(-i64::try_from(duration.as_nanos()).unwrap())
}

/// What happens between the admin and its database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// The deactivation is made at another admin.
    DeactivateElsewhere,
    /// A heartbeat is sent.
    Send,
    /// It commits, and reads.
    Commit,
    /// It is answered.
    Answer,
    /// Its answer is lost, or it is.
    Lose,
}

impl Shared {
    /// Steps that are possible.
    pub(crate) fn possible(&self, call: Call, cuts: bool) -> impl Iterator<Item = Step> {
        let steps = [
            (Step::DeactivateElsewhere, call == Call::Ahead),
            (Step::Send, self.beat.is_none()),
            (Step::Commit, matches!(self.beat, Some(Beat::Sent(_)))),
            (Step::Answer, matches!(self.beat, Some(Beat::Committed { .. }))),
            (Step::Lose, cuts && self.beat.is_some()),
        ];
        steps.into_iter().filter_map(|(step, possible)| possible.then_some(step))
    }

    /// The deactivation is known to be committed at this admin.
    pub(crate) fn deactivated(&mut self) {
        self.barrier = Some(Barrier::new(at(0)));
    }

    /// This admin has applied the deactivation, and queued it everywhere.
    pub(crate) fn applied(&mut self) {
        self.basis.applied(DEACTIVATION);
    }

    /// The admin's next process begins. It reads the database.
    pub(crate) fn restart(&mut self, call: Call) {
        let committed = if call == Call::Ahead { BEFORE } else { DEACTIVATION };
        let waits_here = call == Call::Waiting && !self.elsewhere;
        *self = Self {
            basis: Basis::new(committed),
            former: true,
            // A client that lost its admin asks again.
            barrier: if waits_here { Some(Barrier::new(at(0))) } else { self.barrier.take() },
            elsewhere: self.elsewhere,
            ..Self::default()
        };
    }

    /// What grants are chained to.
    pub(crate) fn basis(&self, world: &World) -> Option<Instant> {
        if world.is(Mutant::NoBasisCap) { self.basis.since().and(Some(at(0))) } else { self.basis.since() }
    }

    pub(crate) fn enforced(&self, own_is_enough: bool, own: Enforcement) -> Option<Enforcement> {
        match self.barrier.as_ref()?.standing(at(0)) {
            Standing::Clear if own_is_enough => Some(own),
            Standing::WaitedOut => Some(Enforcement { lapsed: own.lapsed + 1, missing: 0, ..own }),
            _ => None,
        }
    }

    pub(crate) fn forget_the_wait(&mut self) {
        (self.barrier, self.elsewhere, self.former) = (None, false, false);
        self.watch = Watch::default();
        if let Some(Beat::Committed { former, .. }) = &mut self.beat {
            *former = false;
        }
    }

    pub(crate) fn canonical(&mut self, now: Instant, policy: &Policy) {
        // Nothing can be granted on a basis so old that no more than the margin is left of a lease.
        let no_grant = ago(policy.lease.saturating_sub(policy.clock_margin));
        // A life that was seen before this is silent for long enough, and whatever committed is waited out.
        let long_ago = ago(policy.wait_out() + ticks(1));
        self.basis = self.basis.canonical(now, no_grant);
        self.watch = self.watch.canonical(now, long_ago);
        self.barrier = self.barrier.take().map(|barrier| barrier.canonical(now, long_ago));
        // How long ago a heartbeat was sent matters for more than grants only if somebody waits for what it lists.
        let waits = self.barrier.is_some() && !self.elsewhere;
        let useless =
            if waits || self.former || self.beat.is_some_and(Beat::lists_a_former_life) { long_ago } else { no_grant };
        match &mut self.beat {
            Some(Beat::Sent(sent) | Beat::Committed { sent, .. }) => {
                *sent = Instant::from_nanos(sent.as_nanos() - now.as_nanos()).max(useless);
            }
            None => {}
        }
    }
}

fn listing(asked: Instant, former: bool, policy: &Policy) -> Listing {
    let node = |life| AdminNode { life, lease: policy.lease, heartbeat: 0, address: None };
    Listing { asked, nodes: former.then_some(FORMER).into_iter().map(node).collect() }
}

impl World {
    pub(crate) fn at_the_database(&self, state: &mut State, step: Step) {
        let policy = *state.sessions.policy();
        let committed = state.call != Call::Ahead;
        let Some(shared) = &mut state.shared else { return };
        match step {
            Step::DeactivateElsewhere => {
                // There this admin is listed, and no early end of the wait is known of.
                let mut barrier = Barrier::new(at(0));
                let nodes = vec![AdminNode { life: OWN, lease: policy.lease, heartbeat: 0, address: None }];
                barrier.listed(ELSEWHERE, &Listing { asked: at(0), nodes }, &policy);
                (shared.barrier, shared.elsewhere) = (Some(barrier), true);
                state.call = Call::Waiting;
            }
            Step::Send => shared.beat = Some(Beat::Sent(at(0))),
            Step::Commit => {
                let Some(Beat::Sent(sent)) = shared.beat else { return };
                let newest =
                    if committed && !self.is(Mutant::HeartbeatWithoutRevision) { DEACTIVATION } else { BEFORE };
                shared.beat = Some(Beat::Committed { sent, newest, former: shared.former });
            }
            Step::Answer => self.answer(shared, &policy),
            Step::Lose => shared.beat = None,
        }
    }

    fn answer(&self, shared: &mut Shared, policy: &Policy) {
        let Some(Beat::Committed { sent, newest, former }) = shared.beat.take() else { return };
        shared.basis.beat(if self.is(Mutant::BasisAtReply) { at(0) } else { sent }, newest);
        let listing = listing(sent, former && !self.is(Mutant::OwnOnly), policy);
        if let Some(barrier) = shared.barrier.as_mut().filter(|_| !shared.elsewhere) {
            barrier.listed(OWN, &listing, policy);
        }
        let early = self.is(Mutant::StruckOffEarly);
        if early || !shared.watch.silent(&listing, policy, at(0)).is_empty() {
            shared.former = false;
        }
    }
}
