use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

/// A validator's side of its leases: when it asked, what it was granted, and by which session.
///
/// Leases are kept per session, and the latest counts. One that outlived the Goodbye to its session would be a hole: the
/// admin that gave it has stopped waiting for it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Holder {
    session: u64,
    /// By the number of the session.
    leases: BTreeMap<u64, Instant>,
    /// When each renewal that has no grant yet was about to be sent, in this session.
    anchors: BTreeMap<u64, Instant>,
}

impl Holder {
    /// Begins a session. Leases of sessions that broke count on to their ends.
    pub fn begin(&mut self, now: Instant) {
        self.session += 1;
        self.anchors.clear();
        self.leases.retain(|_, until| now < *until);
    }

    /// Notes that renewal `seq` is about to be sent. The lease counts from here, not from the grant's arrival: the admin
    /// may have begun to count just after this.
    pub fn renewing(&mut self, seq: u64, now: Instant) {
        self.anchors.insert(seq, now);
    }

    /// Takes a grant, and returns the instant from which it counts. One that answers no renewal of this session gives
    /// nothing: it could only be counted from a wrong instant.
    pub fn granted(&mut self, seq: u64, duration: Duration) -> Option<Instant> {
        let anchor = self.anchors.remove(&seq)?;
        self.anchors.retain(|other, _| *other > seq);
        let until = anchor.plus(duration);
        let lease = self.leases.entry(self.session).or_insert(until);
        *lease = until.max(*lease);
        Some(anchor)
    }

    /// Ends this session's lease at once: before the Goodbye is said.
    pub fn leave(&mut self) {
        self.leases.remove(&self.session);
        self.anchors.clear();
    }

    /// Ends every lease at once.
    pub fn drop_all(&mut self) {
        self.leases.clear();
    }

    /// This holder as it would look if `now` were instant 0, without what can no longer lead to an answer: holders that
    /// differ in the past only become equal, so that a search through all states comes to an end (`tests/model`).
    /// Renewals without a grant are numbered from 0; their numbers so far come back, in that order. `longest`: no grant is
    /// longer.
    #[must_use]
    pub fn canonical(&self, now: Instant, longest: Duration) -> (Self, Vec<u64>) {
        let shifted = |at: Instant| Instant::from_nanos(at.as_nanos().saturating_sub(now.as_nanos()));
        let useless = Instant::from_nanos(i64::try_from(longest.as_nanos()).map_or(i64::MIN, |longest| -longest));
        let (broken, current): (Vec<_>, Vec<_>) =
            self.leases.iter().filter(|(_, until)| now < **until).partition(|(session, _)| **session < self.session);
        // Of the sessions that broke only the latest lease counts.
        let broken = broken.into_iter().map(|(_, until)| (0, shifted(*until))).max();
        let leases = broken.into_iter().chain(current.into_iter().map(|(_, until)| (1, shifted(*until)))).collect();
        let anchors = (0..).zip(self.anchors.values().map(|at| shifted(*at).max(useless))).collect();
        (Self { session: 1, leases, anchors }, self.anchors.keys().copied().collect())
    }

    /// Until when it may answer.
    pub fn until(&self) -> Instant {
        self.leases.values().copied().max().unwrap_or(Instant::MIN)
    }
}
