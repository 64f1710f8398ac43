use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keyward_domain::Revision;

use crate::policy::Policy;
use crate::time::Instant;

/// Numbers the sessions of one admin process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// An admin's record of the leases it has granted: which session may answer from before which revision, and until when. The
/// record outlives connections, because a validator whose stream broke may use its lease to the end.
///
/// Invariant: deltas and grants are queued to a session in the order in which this record takes them, and a validator
/// acknowledges a revision only once every request sees it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Sessions {
    policy: Policy,
    sessions: BTreeMap<SessionId, Session>,
    /// Until when leases of earlier lives of this admin, or of a lost history, may be in use.
    former_life_until: Option<Instant>,
}

#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Session {
    /// The stream is over: no grant follows.
    gone: bool,
    /// Until when, on the admin's clock, its newest lease may be in use; `None` if it has had no lease.
    block_until: Option<Instant>,
    acked: Revision,
    /// For each delta that was queued and not acknowledged: until when leases granted *before* it may be in use. Leases granted
    /// after it cannot be used before it is applied, so they do not prolong the wait; this bounds every wait.
    unacked: VecDeque<(Revision, Instant)>,
}

/// The status of one session with regard to a revision.
enum SessionStatus {
    /// It answers from that revision on, or has never answered.
    Clear {
        /// It acknowledged the revision.
        acked: bool,
    },
    /// It has not acknowledged, but its leases from before have expired.
    Lapsed,
    /// It may answer from before until that instant.
    Blocks(Instant),
}

/// How far a revision is enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Enforcement {
    /// Sessions that acknowledged.
    pub acked: usize,
    /// Sessions, and earlier lives, whose leases expired instead.
    pub lapsed: usize,
    /// Sessions, and earlier lives, that may still answer from before the revision.
    pub missing: usize,
    /// When the first of the missing ones lapses, at the latest.
    pub next_lapse: Option<Instant>,
}

impl Sessions {
    /// The record of an admin that starts at `now`. `former_lives`: the policy by which an earlier process over the same
    /// database may have granted leases that are still in use. Nothing counts as enforced before those have expired.
    pub fn new(policy: Policy, former_lives: Option<Policy>, now: Instant) -> Self {
        let former_life_until = former_lives.map(|former| now.plus(former.wait_out()));
        Self { policy, sessions: BTreeMap::new(), former_life_until }
    }

    /// The policy that leases are granted by.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Adds a session.
    pub fn join(&mut self, id: SessionId) {
        self.sessions.insert(id, Session::default());
    }

    /// Records that a session's stream broke. It gets no further grant, but may use its lease to the end.
    pub fn break_stream(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.gone = true;
        }
    }

    /// Removes a session after its validator's Goodbye, which is sent once the validator has stopped answering under it.
    pub fn goodbye(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Records that the delta of `revision` was queued to every session.
    pub fn queued(&mut self, revision: Revision) {
        for session in self.sessions.values_mut() {
            if let Some(until) = session.block_until {
                session.unacked.push_back((revision, until));
            }
        }
    }

    /// Records that a session has applied everything up to `revision`. Acknowledgements never go back.
    pub fn ack(&mut self, id: SessionId, revision: Revision) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.acked = session.acked.max(revision);
            while session.unacked.front().is_some_and(|(sent, _)| *sent <= session.acked) {
                session.unacked.pop_front();
            }
        }
    }

    /// Grants a lease for a renewal that arrived at `now`. Returns how long the validator may answer, counted from before it
    /// sent the renewal. `basis`: an instant at which this admin knew the whole log; no lease ends later than D after it.
    /// Returns `None` if nothing can be granted. The grant must be queued to the session before anything else.
    pub fn grant(&mut self, id: SessionId, basis: Instant, now: Instant) -> Option<Duration> {
        let policy = self.policy;
        let session = self.sessions.get_mut(&id).filter(|session| !session.gone)?;
        let left = basis.plus(policy.lease).since(now).min(policy.lease);
        let duration = left.checked_sub(policy.clock_margin).filter(|d| !d.is_zero())?;
        let until = now.plus(policy.held(duration));
        session.block_until = session.block_until.max(Some(until));
        Some(duration)
    }

    /// How far `revision`, whose delta has been queued, is enforced at `now`.
    pub fn enforcement(&self, revision: Revision, now: Instant) -> Enforcement {
        let former = self
            .former_life_until
            .map(|until| if now < until { SessionStatus::Blocks(until) } else { SessionStatus::Lapsed });
        let statuses = self.sessions.values().map(|session| session.status(revision, now)).chain(former);
        let mut sum = Enforcement { acked: 0, lapsed: 0, missing: 0, next_lapse: None };
        for status in statuses {
            match status {
                SessionStatus::Clear { acked } => sum.acked += usize::from(acked),
                SessionStatus::Lapsed => sum.lapsed += 1,
                SessionStatus::Blocks(until) => {
                    sum.missing += 1;
                    sum.next_lapse = Some(sum.next_lapse.map_or(until, |other| other.min(until)));
                }
            }
        }
        sum
    }

    /// Records that every stream broke.
    pub fn break_all(&mut self) {
        self.sessions.values_mut().for_each(|session| session.gone = true);
    }

    /// Ends every session because the history forked. Nothing counts as enforced before every lease of the lost history has
    /// expired, whichever admin granted it. `wait_out`: D' by the longest lease.
    pub fn forked(&mut self, wait_out: Duration, now: Instant) {
        self.sessions.clear();
        self.former_life_until = self.former_life_until.max(Some(now.plus(wait_out)));
    }

    /// Removes sessions without a stream whose leases have expired at `now`.
    pub fn forget_lapsed(&mut self, now: Instant) {
        self.sessions.retain(|_, s| !s.gone || s.block_until.is_some_and(|until| now < until));
        self.former_life_until = self.former_life_until.filter(|until| now < *until);
    }

    /// This record on a clock whose zero is `now`, without anything that can no longer decide whether a revision is enforced:
    /// records that differ only in the past become equal, so that a search through all states ends. `rename` numbers the
    /// sessions that have a stream. Sessions without a stream are numbered downwards from `u64::MAX`; one that is
    /// outlasted by another is dropped. Only the counts of [`Enforcement`] may become smaller, and `missing` never 0.
    #[must_use]
    pub fn canonical(&self, now: Instant, rename: impl Fn(SessionId) -> SessionId) -> Self {
        let former_life_until = self.former_life_until.and_then(|until| ahead(until, now));
        let sessions = self.sessions.iter().map(|(id, session)| (*id, session.canonical(now)));
        let (gone, mut connected): (Vec<_>, BTreeMap<_, _>) =
            sessions.fold(Default::default(), |mut parts, (id, s)| {
                if s.gone {
                    parts.0.push(s);
                } else {
                    parts.1.insert(rename(id), s);
                }
                parts
            });
        let mut gone: Vec<_> = gone.into_iter().filter(|session| former_life_until < session.block_until).collect();
        gone.sort();
        gone.dedup();
        let kept = gone.iter().filter(|one| !gone.iter().any(|other| other != *one && one.is_outlasted_by(other)));
        connected.extend((0..).map(|n| SessionId(u64::MAX - n)).zip(kept.cloned()));
        Self { policy: self.policy, sessions: connected, former_life_until }
    }

    /// This record without leases that no queued delta waits for, for a search in which no further delta is queued.
    #[must_use]
    pub fn after_the_last_delta(&self) -> Self {
        let mut record = self.clone();
        for session in record.sessions.values_mut() {
            session.block_until = session.unacked.iter().map(|(_, until)| *until).max();
        }
        record
    }

    /// This record without its leases, for a search in which no fence follows: only the sessions that have a stream.
    #[must_use]
    pub fn without_leases(&self) -> Self {
        let connected = self.sessions.iter().filter(|(_, session)| !session.gone);
        let sessions = connected.map(|(id, _)| (*id, Session::default())).collect();
        Self { policy: self.policy, sessions, former_life_until: None }
    }

    /// Returns `true` if a lease of this record may be in use at `now`.
    pub fn in_use(&self, now: Instant) -> bool {
        let leased = |session: &Session| session.block_until.is_some_and(|until| now < until);
        self.former_life_until.is_some_and(|until| now < until) || self.sessions.values().any(leased)
    }

    /// How many sessions have a stream.
    pub fn connected(&self) -> usize {
        self.sessions.values().filter(|session| !session.gone).count()
    }
}

impl Session {
    fn status(&self, revision: Revision, now: Instant) -> SessionStatus {
        if self.acked >= revision {
            return SessionStatus::Clear { acked: true };
        }
        match self.unacked.iter().find(|(sent, _)| *sent == revision) {
            // Its first grant was queued after the delta, so its lease cannot be used from before.
            None => SessionStatus::Clear { acked: false },
            Some((_, until)) if now < *until => SessionStatus::Blocks(*until),
            Some(_) => SessionStatus::Lapsed,
        }
    }

    /// See [`Sessions::canonical`].
    fn canonical(&self, now: Instant) -> Self {
        let zero = Instant::default();
        Self {
            gone: self.gone,
            block_until: self.block_until.and_then(|until| ahead(until, now)),
            // No acknowledgement arrives on a broken stream, and acknowledged revisions are not in `unacked`.
            acked: if self.gone { Revision::default() } else { self.acked },
            unacked: self.unacked.iter().map(|(sent, until)| (*sent, ahead(*until, now).unwrap_or(zero))).collect(),
        }
    }

    /// Returns `true` if `other` blocks every revision that this session blocks, for at least as long. Both streams are broken.
    fn is_outlasted_by(&self, other: &Self) -> bool {
        let covered = |(sent, until): &(Revision, Instant)| other.unacked.iter().any(|(s, u)| s == sent && until <= u);
        self.block_until <= other.block_until && self.unacked.iter().all(covered)
    }
}

/// `until` on a clock whose zero is `now`; `None` if it has passed.
fn ahead(until: Instant, now: Instant) -> Option<Instant> {
    (now < until).then(|| until.relative_to(now))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const R: Revision = Revision(5);
    const EXACT: Policy =
        Policy { lease: Duration::from_secs(10), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn sessions(ids: u64) -> Sessions {
        let mut sessions = Sessions::new(EXACT, None, at(0));
        (0..ids).for_each(|id| sessions.join(SessionId(id)));
        sessions
    }

    fn missing(sessions: &Sessions, now: i64) -> usize {
        sessions.enforcement(R, at(now)).missing
    }

    #[test]
    fn exactly_the_sessions_that_may_answer_from_before_are_awaited() {
        let mut sessions = sessions(3);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.grant(SessionId(1), at(0), at(0)).unwrap();
        sessions.queued(R);
        // Session 2 gets its first grant after the delta.
        sessions.grant(SessionId(2), at(0), at(0)).unwrap();
        assert_eq!(missing(&sessions, 1), 2);
        sessions.ack(SessionId(0), R);
        sessions.ack(SessionId(1), Revision(4));
        assert_eq!(missing(&sessions, 1), 1);
        sessions.ack(SessionId(1), Revision(6));
        sessions.ack(SessionId(1), Revision(1));
        let sum = sessions.enforcement(R, at(1));
        assert_eq!((sum.acked, sum.lapsed, sum.missing), (2, 0, 0));
    }

    #[test]
    fn a_broken_stream_blocks_until_its_lease_has_lapsed() {
        let mut sessions = sessions(1);
        // 9 s, in use for at most 10 s on the admin's clock.
        assert_eq!(sessions.grant(SessionId(0), at(0), at(0)), Some(Duration::from_secs(9)));
        sessions.queued(R);
        sessions.break_stream(SessionId(0));
        let sum = sessions.enforcement(R, at(9));
        assert_eq!((sum.missing, sum.next_lapse), (1, Some(at(10))));
        sessions.forget_lapsed(at(9));
        let sum = sessions.enforcement(R, at(10));
        assert_eq!((sum.acked, sum.lapsed, sum.missing), (0, 1, 0));
        assert_eq!(sessions.grant(SessionId(0), at(10), at(10)), None, "a broken session gets no grant");
        sessions.forget_lapsed(at(10));
        assert_eq!(sessions.sessions.len(), 0);
    }

    #[test]
    fn a_validator_that_renews_but_never_acknowledges_delays_a_fence_by_one_lease_at_most() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.queued(R);
        for now in 1..10 {
            sessions.grant(SessionId(0), at(now), at(now)).unwrap();
        }
        assert_eq!((missing(&sessions, 9), missing(&sessions, 10)), (1, 0));
    }

    #[test]
    fn a_goodbye_ends_the_wait_at_once() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.queued(R);
        sessions.goodbye(SessionId(0));
        assert_eq!(missing(&sessions, 0), 0);
    }

    #[test]
    fn a_lease_ends_at_most_d_after_its_basis() {
        let mut sessions = sessions(1);
        assert_eq!(sessions.grant(SessionId(0), at(0), at(4)), Some(Duration::from_secs(5)));
        assert_eq!(sessions.grant(SessionId(0), at(0), at(9)), None, "less than the margin is left");
        assert_eq!(sessions.grant(SessionId(0), at(0), at(30)), None);
        assert_eq!(sessions.grant(SessionId(9), at(0), at(0)), None, "no such session");
    }

    #[test]
    fn after_a_fork_nothing_is_enforced_before_every_lease_of_the_former_history_has_expired() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.queued(R);
        sessions.ack(SessionId(0), R);
        assert_eq!(missing(&sessions, 1), 0);
        sessions.forked(EXACT.wait_out(), at(1));
        assert_eq!((missing(&sessions, 11), missing(&sessions, 12)), (1, 0));
        assert!(sessions.in_use(at(11)));
        assert_eq!(sessions.grant(SessionId(0), at(2), at(2)), None, "its session was of the lost history");
    }

    #[test]
    fn leases_of_earlier_lives_are_waited_out_for_old_and_new_revisions() {
        let mut sessions = Sessions::new(EXACT, Some(EXACT), at(100));
        // 10 s and the margin.
        assert_eq!((missing(&sessions, 110), missing(&sessions, 111)), (1, 0));
        sessions.queued(R);
        assert_eq!((missing(&sessions, 110), missing(&sessions, 111)), (1, 0));
        sessions.forget_lapsed(at(111));
        assert_eq!(sessions.enforcement(R, at(111)).lapsed, 0);
    }
}
