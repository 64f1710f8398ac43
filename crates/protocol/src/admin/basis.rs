use keyward_domain::Revision;

use crate::time::Instant;

/// The instant that the grants of an admin with peers are chained to: the newest instant at which it knew the whole log.
///
/// A heartbeat is a durable write that returns the newest revision. Everything that was committed when the heartbeat was
/// *sent* is at or before that revision. Once all of it is applied, a lease that ends D after the sending outlasts no change
/// by more than D. An admin that is cut off from the database keeps its basis, and its grants expire with the basis.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Basis {
    applied: Revision,
    /// An answered heartbeat whose newest revision is not applied yet: when it was sent, and that revision.
    pending: Option<(Instant, Revision)>,
    since: Option<Instant>,
}

impl Basis {
    /// No basis yet, at an admin that has applied everything up to `applied`.
    pub const fn new(applied: Revision) -> Self {
        Self { applied, pending: None, since: None }
    }

    /// Records a heartbeat that was sent at `sent`, is committed, and returned `newest`. A heartbeat with an unknown outcome
    /// must not be recorded: it may never have been written.
    pub fn heartbeat(&mut self, sent: Instant, newest: Revision) {
        // Keep the older heartbeat until it is applied. If each heartbeat replaced it, an admin that is always a little
        // behind would never have a basis.
        let heartbeat = self.pending.filter(|(_, revision)| self.applied < *revision).unwrap_or((sent, newest));
        self.pending = Some(heartbeat);
        self.advance();
    }

    /// Records that everything up to `revision` is applied, and queued to each session before every later grant.
    pub fn applied(&mut self, revision: Revision) {
        self.applied = self.applied.max(revision);
        self.advance();
    }

    /// Drops the basis: this admin's row is gone, or its history may not be the database's.
    pub const fn drop_basis(&mut self) {
        (self.pending, self.since) = (None, None);
    }

    /// The instant that leases are chained to; `None` if none may be granted.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    fn advance(&mut self) {
        if let Some((sent, newest)) = self.pending
            && newest <= self.applied
        {
            self.since = self.since.max(Some(sent));
            self.pending = None;
        }
    }

    /// This basis on a clock whose zero is `now`, for a search through all states. Instants before `useless` allow no grant
    /// and are replaced by it.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let shifted = |at: Instant| at.relative_to(now).max(useless);
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
    fn a_basis_is_the_sending_of_a_heartbeat_whose_revision_is_applied() {
        let mut basis = Basis::new(Revision(7));
        basis.heartbeat(at(1), Revision(7));
        assert_eq!(basis.since(), Some(at(1)));
        basis.heartbeat(at(2), Revision(9));
        assert_eq!(basis.since(), Some(at(1)), "two changes are missing");
        basis.applied(Revision(8));
        assert_eq!(basis.since(), Some(at(1)), "one is");
        basis.applied(Revision(9));
        assert_eq!(basis.since(), Some(at(2)));
    }

    #[test]
    fn an_admin_that_is_always_a_little_behind_still_gets_a_basis() {
        let mut basis = Basis::new(Revision(0));
        for n in 1..10 {
            basis.heartbeat(at(n), Revision(n * 10));
            basis.applied(Revision(n * 10 - 5));
        }
        assert_eq!(basis.since(), Some(at(7)));
    }

    #[test]
    fn a_dropped_basis_comes_back_only_with_a_new_heartbeat() {
        let mut basis = Basis::new(Revision(1));
        basis.heartbeat(at(1), Revision(2));
        basis.drop_basis();
        basis.applied(Revision(2));
        assert_eq!(basis.since(), None);
        basis.heartbeat(at(3), Revision(2));
        assert_eq!(basis.since(), Some(at(3)));
    }
}
