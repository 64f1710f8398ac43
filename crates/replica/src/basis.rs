use keyward_domain::Revision;

use crate::clock::Instant;

/// Since when an admin that shares its database has known the whole log: what its grants are chained to.
///
/// A heartbeat is a durable write that returns the newest revision. Whatever had been committed when it was *sent* is
/// among what it returns, so once all of that is applied, a lease that ends D after the sending outlasts no change by
/// more than D. An admin that is cut off from the database keeps its basis and its grants run out with it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Basis {
    applied: Revision,
    /// A heartbeat that was answered with a revision which is not applied yet.
    pending: Option<(Instant, Revision)>,
    since: Option<Instant>,
}

impl Basis {
    /// None yet, at an admin that has applied everything up to `applied`.
    pub const fn new(applied: Revision) -> Self {
        Self { applied, pending: None, since: None }
    }

    /// A heartbeat that was sent at `sent` is known to be committed, and `newest` was the newest revision then. One whose
    /// outcome is unknown must not be told: it may never have been written.
    pub fn beat(&mut self, sent: Instant, newest: Revision) {
        // An older one is nearer to being applied: were it replaced each time, an admin that is always a little behind
        // would never have a basis.
        let beat = self.pending.filter(|(_, revision)| self.applied < *revision).unwrap_or((sent, newest));
        self.pending = Some(beat);
        self.settle();
    }

    /// Everything up to `revision` is applied, and before every later grant in each session's queue.
    pub fn applied(&mut self, revision: Revision) {
        self.applied = self.applied.max(revision);
        self.settle();
    }

    /// This admin's row is gone, or its history is not the database's: it holds nothing any more.
    pub const fn lose(&mut self) {
        (self.pending, self.since) = (None, None);
    }

    /// The instant that leases are chained to; `None`: there must be none.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    fn settle(&mut self) {
        if let Some((sent, newest)) = self.pending
            && newest <= self.applied
        {
            self.since = self.since.max(Some(sent));
            self.pending = None;
        }
    }

    /// This basis as it would look if `now` were instant 0, for a search through all states (`tests/model`). Instants
    /// before `useless` allow no grant, and are as good as it.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let shifted = |at: Instant| Instant::from_nanos(at.as_nanos().saturating_sub(now.as_nanos())).max(useless);
        Self {
            applied: self.applied,
            pending: self.pending.map(|(sent, newest)| (shifted(sent), newest)),
            since: self.since.map(shifted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_heartbeat_counts_from_its_sending_once_all_that_it_returned_is_applied() {
        let mut basis = Basis::new(Revision(7));
        basis.beat(at(1), Revision(7));
        assert_eq!(basis.since(), Some(at(1)));
        basis.beat(at(2), Revision(9));
        assert_eq!(basis.since(), Some(at(1)), "two changes are missing");
        basis.applied(Revision(8));
        assert_eq!(basis.since(), Some(at(1)), "one is");
        basis.applied(Revision(9));
        assert_eq!(basis.since(), Some(at(2)));
    }

    #[test]
    fn an_admin_that_is_always_a_little_behind_has_a_basis_all_the_same() {
        let mut basis = Basis::new(Revision(0));
        for n in 1..10 {
            basis.beat(at(n), Revision(n * 10));
            basis.applied(Revision(n * 10 - 5));
        }
        assert_eq!(basis.since(), Some(at(7)));
    }

    #[test]
    fn a_basis_that_is_lost_comes_back_with_a_new_heartbeat_only() {
        let mut basis = Basis::new(Revision(1));
        basis.beat(at(1), Revision(2));
        basis.lose();
        basis.applied(Revision(2));
        assert_eq!(basis.since(), None);
        basis.beat(at(3), Revision(2));
        assert_eq!(basis.since(), Some(at(3)));
    }
}
