//! Waiting until no validator answers from before a revision.

use std::time::Duration;

use keyward_domain::{AdminLife, Error, Position, Revision};
use keyward_replica::{Barrier, Cleared, Clock, Standing};

use crate::sync::peers::Asking;
use crate::sync::publisher::Publisher;
use crate::sync::state::State;

/// How long to wait at most before looking again without a reason.
const LOOK: Duration = Duration::from_secs(1);

/// What a fence may take beyond the longest wait for leases to run out, for reading the log and for scheduling.
const SLACK: Duration = Duration::from_secs(5);

/// Timers are not exact to the nanosecond.
const TIMER: Duration = Duration::from_millis(1);

/// How a wait for the validators ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FenceOutcome {
    /// Sessions that acknowledged.
    pub(crate) acked: usize,
    /// Sessions and former lives whose leases ran out instead.
    pub(crate) lapsed: usize,
    /// Sessions, former lives and other admins whose validators may still answer from before; 0: it is enforced.
    pub(crate) missing: usize,
    /// Leases were waited out.
    pub(crate) waited_out: bool,
    /// The history of the database has changed meanwhile: the revision may be another change now, or none.
    pub(crate) parted: bool,
    /// Only other admins are waited for, and none of them can be asked: that takes as long as leases last.
    pub(crate) only_others: bool,
}

impl Publisher {
    /// Whether no validator answers from before `revision`, now, as far as this admin knows.
    pub(crate) fn is_enforced(&self, revision: Revision) -> bool {
        let mut state = self.lock();
        let (now, policy) = (self.clock().now(), *state.sessions.policy());
        if state.in_doubt {
            return false;
        }
        if let Some(shared) = &mut state.shared {
            return shared.look(revision, &policy, now).is_some();
        }
        state.revision >= revision && state.sessions.enforcement(revision, now).missing == 0
    }

    /// Waits until no validator answers from before `revision`, which is committed; for `limit`, if there is one, and no
    /// longer than leases can last. `give_up`: ends it early, whatever it has found.
    pub(crate) async fn fence(
        &self,
        revision: Revision,
        limit: Option<Duration>,
        give_up: fn(&FenceOutcome) -> bool,
    ) -> FenceOutcome {
        let begun = tokio::time::Instant::now();
        let mut barrier = Barrier::new(self.committed_before(revision));
        let mut asking = Asking::default();
        self.hint();
        self.beat_now().notify_one();
        let mut moved = self.movements();
        let doubts = self.lock().doubts;
        loop {
            moved.borrow_and_update();
            let (mut outcome, look_again) = self.look(revision, &mut barrier, doubts);
            if outcome.missing > 0 {
                // By the newest listing there is; who is found in one from after the commit only, is asked then.
                self.ask_others(revision, &mut asking);
                outcome.only_others &= !asking.is_open();
            }
            // Asked each time: longer leases of others may have become known.
            let longest = self.longest_wait() + SLACK;
            let left = limit.unwrap_or(longest).min(longest).saturating_sub(begun.elapsed());
            if outcome.missing == 0 || outcome.parted || left.is_zero() || give_up(&outcome) {
                return outcome;
            }
            tokio::select! {
                _ = moved.changed() => {}
                (life, answer) = asking.next() => {
                    if let Some(cleared) = answer {
                        barrier.cleared(life, cleared);
                    }
                }
                () = tokio::time::sleep((look_again + TIMER).min(left)) => {}
            }
        }
    }

    /// Asks the other admins once this one has published the revision, and can tell them which history it is of.
    fn ask_others(&self, revision: Revision, asking: &mut Asking) {
        let place = self.lock().place_at(revision);
        if let (Some(peers), Some(others), Some(place)) = (self.peers(), self.others(), place) {
            peers.ask(asking, &others, &place);
        }
    }

    /// Waits, for another admin, until no validator of this one answers from before a place in the log; `patience`: for how
    /// long at most. `None`: that is not for this admin to say, for it is not in that life, or follows another history.
    ///
    /// # Errors
    /// `NOT_YET_ENFORCED`: not in time.
    pub(crate) async fn clear_for(
        &self,
        life: AdminLife,
        place: &Position,
        patience: Option<Duration>,
    ) -> Result<Option<Cleared>, Error> {
        let begun = tokio::time::Instant::now();
        let limit = patience.unwrap_or_else(|| self.longest_wait() + SLACK);
        self.hint();
        let mut moved = self.movements();
        loop {
            moved.borrow_and_update();
            let Some((outcome, look_again)) = self.look_for(life, place) else { return Ok(None) };
            if outcome.missing == 0 {
                return Ok(Some(Cleared { acked: outcome.acked, lapsed: outcome.lapsed }));
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::not_yet_enforced(place.revision, outcome.missing));
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = tokio::time::sleep((look_again + TIMER).min(left)) => {}
            }
        }
    }

    /// An instant before which the revision was committed: the earlier, the less there is to wait.
    fn committed_before(&self, revision: Revision) -> keyward_replica::Instant {
        let now = self.clock().now();
        self.with_shared(|shared| shared.settled.committed_before(revision)).flatten().unwrap_or(now)
    }

    /// How far the validators of that life have come, if this is it and the place may be in its history.
    fn look_for(&self, life: AdminLife, place: &Position) -> Option<(FenceOutcome, Duration)> {
        let state = self.lock();
        let lives = !state.in_doubt && state.shared.as_ref().is_some_and(|shared| shared.life == life);
        let follows = if state.revision < place.revision {
            state.known().epoch == place.epoch
        } else {
            // Its number alone says little: another history has a change of the same number.
            state.place_at(place.revision).as_ref() == Some(place)
        };
        (lives && follows).then(|| state.look_at_own(place.revision))
    }

    /// How far a revision is enforced, and when to look again if nothing moves before. `doubts`: as it was when the fence
    /// began; the database may have lost that revision since.
    fn look(&self, revision: Revision, barrier: &mut Barrier, doubts: u64) -> (FenceOutcome, Duration) {
        let mut state = self.lock();
        if state.in_doubt || state.doubts != doubts {
            let parted = state.doubts != doubts;
            return (FenceOutcome { missing: 1, parted, ..FenceOutcome::default() }, LOOK);
        }
        let (own, look_again) = state.look_at_own(revision);
        state.look_at_others(revision, barrier, own, look_again)
    }
}

impl State {
    /// How far the validators of this admin have come.
    fn look_at_own(&self, revision: Revision) -> (FenceOutcome, Duration) {
        if self.revision < revision {
            // Not even published: every session may answer from before, and if there is none now one may yet come.
            let missing = self.sessions.connected().max(1);
            return (FenceOutcome { missing, ..FenceOutcome::default() }, LOOK);
        }
        let now = self.clock.now();
        let sum = self.sessions.enforcement(revision, now);
        let waited_out = sum.lapsed > 0;
        let (acked, lapsed, missing) = (sum.acked, sum.lapsed, sum.missing);
        let outcome = FenceOutcome { acked, lapsed, missing, waited_out, ..FenceOutcome::default() };
        (outcome, sum.look_again.map_or(LOOK, |at| at.since(now)))
    }

    /// The same with the admins that share the database, if it is shared.
    fn look_at_others(
        &mut self,
        revision: Revision,
        barrier: &mut Barrier,
        own: FenceOutcome,
        look_again: Duration,
    ) -> (FenceOutcome, Duration) {
        let (now, policy) = (self.clock.now(), *self.sessions.policy());
        let published = self.revision >= revision;
        let Some(shared) = &mut self.shared else { return (own, look_again) };
        if let Some(by_acks) = shared.look(revision, &policy, now) {
            return (FenceOutcome { missing: 0, waited_out: !by_acks, ..own }, LOOK);
        }
        shared.tell(barrier, &policy);
        let theirs = barrier.sum();
        let own = FenceOutcome {
            acked: own.acked + theirs.acked,
            lapsed: own.lapsed + theirs.lapsed,
            waited_out: own.waited_out || theirs.lapsed > 0,
            ..own
        };
        let outcome = match barrier.standing(now) {
            Standing::Unknown => FenceOutcome { missing: own.missing + 1, ..own },
            Standing::Blocked(others, until) => {
                let (missing, only_others) = (own.missing + others, own.missing == 0);
                return (FenceOutcome { missing, only_others, ..own }, look_again.min(until.since(now)));
            }
            Standing::Clear => own,
            // A change that the log has not shown may not be there: of one that is lost nothing is enforced.
            Standing::WaitedOut if !published => own,
            // Nobody's lease reaches so far, whether or not its holder has been heard of.
            Standing::WaitedOut => {
                FenceOutcome { lapsed: own.lapsed + own.missing, missing: 0, waited_out: true, ..own }
            }
        };
        if outcome.missing == 0 {
            shared.settled.enforced(revision, !outcome.waited_out);
        }
        (outcome, look_again)
    }
}
