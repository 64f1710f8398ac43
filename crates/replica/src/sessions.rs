use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keyward_domain::Revision;

use crate::clock::Instant;
use crate::policy::Policy;

/// Numbers the sessions of one admin process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// An admin's record of who may be answering, from how far back, and until when. It outlives connections: a validator
/// whose stream broke may use its lease to the end.
///
/// Invariant: deltas and grants reach a session in the order in which this record learns of them, and a validator acks
/// only what every request sees.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Sessions {
    policy: Policy,
    sessions: BTreeMap<SessionId, Session>,
    /// Until when leases of this admin's former lives may be in use.
    former_life_until: Option<Instant>,
}

#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Session {
    /// No grant can come any more.
    gone: bool,
    /// Until when, on our clock, its newest lease may be in use; `None`: it never had one.
    block_until: Option<Instant>,
    acked: Revision,
    /// For each delta that was sent and not acked: until when the leases that were given *before* it may be in use.
    /// Grants after it cannot be used before it is applied, so they do not prolong this; that bounds every wait.
    unacked: VecDeque<(Revision, Instant)>,
}

/// How one session stands to a revision.
enum Standing {
    /// It answers from that revision on, or has never answered.
    Clear { acked: bool },
    /// It had not acked, but can no longer answer from before.
    Lapsed,
    /// It may answer from before, until then.
    Blocks(Instant),
}

/// How far a revision is enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Enforcement {
    /// Sessions that acknowledged.
    pub acked: usize,
    /// Sessions, or former lives, whose leases ran out instead.
    pub lapsed: usize,
    /// Sessions, or former lives, that may still answer from before.
    pub missing: usize,
    /// When at the latest the next of the missing lapses.
    pub look_again: Option<Instant>,
}

impl Sessions {
    /// The record of an admin that starts at `now`. `former_lives`: the policy by which an earlier process over the same
    /// state may have given leases that are still in use; nothing counts as enforced before they have run out.
    pub fn new(policy: Policy, former_lives: Option<Policy>, now: Instant) -> Self {
        let former_life_until = former_lives.map(|former| now.plus(former.wait_out()));
        Self { policy, sessions: BTreeMap::new(), former_life_until }
    }

    /// What leases are counted by.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A session begins.
    pub fn join(&mut self, id: SessionId) {
        self.sessions.insert(id, Session::default());
    }

    /// A session's stream broke. It gets no grant any more, but what it was granted it may use.
    pub fn broke(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.gone = true;
        }
    }

    /// A validator said, after it had stopped answering under this session's leases, that it goes.
    pub fn goodbye(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// A delta was appended to every session's queue.
    pub fn appended(&mut self, revision: Revision) {
        for session in self.sessions.values_mut() {
            if let Some(until) = session.block_until {
                session.unacked.push_back((revision, until));
            }
        }
    }

    /// A session has applied everything up to `revision`. Acknowledgements never go back.
    pub fn ack(&mut self, id: SessionId, revision: Revision) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.acked = session.acked.max(revision);
            while session.unacked.front().is_some_and(|(sent, _)| *sent <= session.acked) {
                session.unacked.pop_front();
            }
        }
    }

    /// Answers a renewal that arrived at `now`: how long the validator may answer, counted from before it asked. `basis`:
    /// an instant at which this admin is known to have been at the head of the log; no lease ends later than D after it.
    /// `None`: no lease. The grant must be appended to the session's queue at once.
    pub fn grant(&mut self, id: SessionId, basis: Instant, now: Instant) -> Option<Duration> {
        let policy = self.policy;
        let session = self.sessions.get_mut(&id).filter(|session| !session.gone)?;
        let left = basis.plus(policy.lease).since(now).min(policy.lease);
        let duration = left.checked_sub(policy.clock_margin).filter(|d| !d.is_zero())?;
        let until = now.plus(policy.held(duration));
        session.block_until = session.block_until.max(Some(until));
        Some(duration)
    }

    /// How far `revision`, whose delta has been appended, is enforced at `now`.
    pub fn enforcement(&self, revision: Revision, now: Instant) -> Enforcement {
        let former =
            self.former_life_until.map(|until| if now < until { Standing::Blocks(until) } else { Standing::Lapsed });
        let standings = self.sessions.values().map(|session| session.standing(revision, now)).chain(former);
        let mut sum = Enforcement { acked: 0, lapsed: 0, missing: 0, look_again: None };
        for standing in standings {
            match standing {
                Standing::Clear { acked } => sum.acked += usize::from(acked),
                Standing::Lapsed => sum.lapsed += 1,
                Standing::Blocks(until) => {
                    sum.missing += 1;
                    sum.look_again = Some(sum.look_again.map_or(until, |other| other.min(until)));
                }
            }
        }
        sum
    }

    /// The history has forked: nothing counts as enforced before whatever may have been granted in the former one, by whom
    /// it may be, has run out. `wait_out`: D' by the longest lease.
    pub fn forked(&mut self, wait_out: Duration, now: Instant) {
        self.sessions.clear();
        self.former_life_until = self.former_life_until.max(Some(now.plus(wait_out)));
    }

    /// Forgets what can no longer matter at `now`.
    pub fn forget_lapsed(&mut self, now: Instant) {
        self.sessions.retain(|_, s| !s.gone || s.block_until.is_some_and(|until| now < until));
        self.former_life_until = self.former_life_until.filter(|until| now < *until);
    }

    /// This record as it would look if `now` were instant 0, without what can no longer make a revision enforced or not:
    /// records that differ in the past only become equal, so that a search through all states comes to an end
    /// (`tests/model`). Sessions that have a stream go by the name that `rename` gives them. Nobody names the others any
    /// more: they are numbered downwards from the last number there is, and one that is outlasted by another is left out.
    /// Only the counts in [`Enforcement`] may come out smaller, and never to 0 for `missing`.
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

    /// This record without leases that no delta so far has to wait for, for a search in which none is appended any more
    /// (`tests/model`).
    #[must_use]
    pub fn after_the_last_delta(&self) -> Self {
        let mut record = self.clone();
        for session in record.sessions.values_mut() {
            session.block_until = session.unacked.iter().map(|(_, until)| *until).max();
        }
        record
    }

    /// Whether a lease that this record knows of may be in use at `now`.
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
    fn standing(&self, revision: Revision, now: Instant) -> Standing {
        if self.acked >= revision {
            return Standing::Clear { acked: true };
        }
        match self.unacked.iter().find(|(sent, _)| *sent == revision) {
            // Its first grant came after that delta in the same queue, so it cannot be used from before.
            None => Standing::Clear { acked: false },
            Some((_, until)) if now < *until => Standing::Blocks(*until),
            Some(_) => Standing::Lapsed,
        }
    }

    /// See [`Sessions::canonical`].
    fn canonical(&self, now: Instant) -> Self {
        let zero = Instant::default();
        Self {
            gone: self.gone,
            block_until: self.block_until.and_then(|until| ahead(until, now)),
            // No ack can come on a stream that broke, and what it has acked is not in `unacked`.
            acked: if self.gone { Revision::default() } else { self.acked },
            unacked: self.unacked.iter().map(|(sent, until)| (*sent, ahead(*until, now).unwrap_or(zero))).collect(),
        }
    }

    /// Whether no revision has to wait for this session that has not to wait at least as long for `other`, when the
    /// streams of both are broken.
    fn is_outlasted_by(&self, other: &Self) -> bool {
        let covered = |(sent, until): &(Revision, Instant)| other.unacked.iter().any(|(s, u)| s == sent && until <= u);
        self.block_until <= other.block_until && self.unacked.iter().all(covered)
    }
}

/// An instant, counted from `now`, unless it has passed.
fn ahead(until: Instant, now: Instant) -> Option<Instant> {
    (now < until).then(|| Instant::from_nanos(until.as_nanos().saturating_sub(now.as_nanos())))
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
    fn every_session_that_may_answer_is_waited_for_and_no_other() {
        let mut sessions = sessions(3);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.grant(SessionId(1), at(0), at(0)).unwrap();
        sessions.appended(R);
        // Session 2 gets its first grant behind the delta.
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
    fn a_broken_stream_clears_nothing_and_a_lapse_does() {
        let mut sessions = sessions(1);
        // 9 s, in use for at most 10 s on our clock.
        assert_eq!(sessions.grant(SessionId(0), at(0), at(0)), Some(Duration::from_secs(9)));
        sessions.appended(R);
        sessions.broke(SessionId(0));
        let sum = sessions.enforcement(R, at(9));
        assert_eq!((sum.missing, sum.look_again), (1, Some(at(10))));
        sessions.forget_lapsed(at(9));
        let sum = sessions.enforcement(R, at(10));
        assert_eq!((sum.acked, sum.lapsed, sum.missing), (0, 1, 0));
        assert_eq!(sessions.grant(SessionId(0), at(10), at(10)), None, "a broken session gets no grant");
        sessions.forget_lapsed(at(10));
        assert_eq!(sessions.sessions.len(), 0);
    }

    #[test]
    fn a_validator_that_renews_for_ever_and_never_acks_delays_for_one_lease_only() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.appended(R);
        for now in 1..10 {
            sessions.grant(SessionId(0), at(now), at(now)).unwrap();
        }
        assert_eq!((missing(&sessions, 9), missing(&sessions, 10)), (1, 0));
    }

    #[test]
    fn a_goodbye_clears_at_once() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.appended(R);
        sessions.goodbye(SessionId(0));
        assert_eq!(missing(&sessions, 0), 0);
    }

    #[test]
    fn a_lease_ends_with_the_basis_it_is_chained_to() {
        let mut sessions = sessions(1);
        assert_eq!(sessions.grant(SessionId(0), at(0), at(4)), Some(Duration::from_secs(5)));
        assert_eq!(sessions.grant(SessionId(0), at(0), at(9)), None, "less than the margin is left");
        assert_eq!(sessions.grant(SessionId(0), at(0), at(30)), None);
        assert_eq!(sessions.grant(SessionId(9), at(0), at(0)), None, "no such session");
    }

    #[test]
    fn after_a_fork_nothing_is_enforced_before_all_leases_of_the_former_history_have_run_out() {
        let mut sessions = sessions(1);
        sessions.grant(SessionId(0), at(0), at(0)).unwrap();
        sessions.appended(R);
        sessions.ack(SessionId(0), R);
        assert_eq!(missing(&sessions, 1), 0);
        sessions.forked(EXACT.wait_out(), at(1));
        assert_eq!((missing(&sessions, 11), missing(&sessions, 12)), (1, 0));
        assert!(sessions.in_use(at(11)));
        assert_eq!(sessions.grant(SessionId(0), at(2), at(2)), None, "its session was of the former history");
    }

    #[test]
    fn leases_of_former_lives_are_waited_out_for_old_and_new_revisions_alike() {
        let mut sessions = Sessions::new(EXACT, Some(EXACT), at(100));
        // 10 s and the margin.
        assert_eq!((missing(&sessions, 110), missing(&sessions, 111)), (1, 0));
        sessions.appended(R);
        assert_eq!((missing(&sessions, 110), missing(&sessions, 111)), (1, 0));
        sessions.forget_lapsed(at(111));
        assert_eq!(sessions.enforcement(R, at(111)).lapsed, 0);
    }
}
