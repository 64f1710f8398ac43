use std::collections::VecDeque;

use keyward_domain::Revision;

use crate::admin::barrier::Listing;
use crate::policy::Policy;
use crate::time::Instant;

/// How a revision came to be enforced.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EnforcedBy {
    /// Every session acknowledged it.
    Acks,
    /// At least one lease was waited out.
    WaitOut,
}

/// The revisions that are known to be enforced everywhere, at an admin that shares its database. Within one history an
/// enforced revision stays enforced, and so does everything before it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Enforced {
    by_acks: Revision,
    by_wait_out: Revision,
    /// Revisions that this admin has applied, and when: each was committed before that. In order.
    applied: VecDeque<(Revision, Instant)>,
}

impl Enforced {
    /// Records that a revision was applied at `now`.
    pub fn applied(&mut self, revision: Revision, now: Instant) {
        match self.applied.back_mut() {
            // Several changes of one instant need one entry.
            Some((newest, at)) if *at == now => *newest = revision.max(*newest),
            _ => self.applied.push_back((revision, now)),
        }
    }

    /// Records that a fence found `revision` enforced.
    pub fn enforced(&mut self, revision: Revision, by: EnforcedBy) {
        let newest = match by {
            EnforcedBy::Acks => &mut self.by_acks,
            EnforcedBy::WaitOut => &mut self.by_wait_out,
        };
        *newest = revision.max(*newest);
    }

    /// An instant before which `revision` was committed; `None` if it was not applied here, or so long ago that it is
    /// enforced.
    pub fn committed_before(&self, revision: Revision) -> Option<Instant> {
        let first = self.applied.partition_point(|(applied, _)| *applied < revision);
        self.applied.get(first).map(|(_, at)| *at)
    }

    /// Takes the newest listing, at `now`. A revision is enforced once D' has passed since it was applied, by the longest
    /// lease of a listing from after that: an earlier listing lacks the lives that began in between.
    pub fn listed(&mut self, listing: &Listing, policy: &Policy, now: Instant) {
        let wait_out = listing.longest_wait(policy);
        while let Some((applied, at)) = self.applied.front().copied()
            && at <= listing.asked
            && at.plus(wait_out) <= now
        {
            self.applied.pop_front();
            self.enforced(applied, EnforcedBy::WaitOut);
        }
    }

    /// How `revision` came to be enforced; `None` if it is not known to be.
    pub fn by(&self, revision: Revision) -> Option<EnforcedBy> {
        if revision <= self.by_acks {
            return Some(EnforcedBy::Acks);
        }
        (revision <= self.by_wait_out).then_some(EnforcedBy::WaitOut)
    }

    /// The instants at which revisions were applied that are not known to be enforced.
    pub fn recorded(&self) -> impl Iterator<Item = Instant> {
        self.applied.iter().filter(|(revision, _)| *revision > Revision(0)).map(|(_, at)| *at)
    }

    /// This record on a clock whose zero is `now`, for a search through all states. What was applied before `useless` was
    /// applied long enough ago. The empty log is dropped, because no fence waits for it.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let applied = self.applied.iter().filter(|(revision, _)| *revision > Revision(0));
        let applied = applied.map(|(revision, at)| (*revision, at.relative_to(now).max(useless))).collect();
        Self { applied, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keyward_domain::{AdminLife, AdminNode};

    use super::*;

    const EXACT: Policy =
        Policy { lease: Duration::from_secs(10), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(asked: i64, leases: &[u64]) -> Listing {
        let node = |(n, seconds): (u8, &u64)| AdminNode {
            life: AdminLife::from_bytes([n; 16]),
            lease: Duration::from_secs(*seconds),
            heartbeat: 1,
            address: None,
        };
        Listing { asked: at(asked), nodes: (0..).zip(leases).map(node).collect() }
    }

    #[test]
    fn a_revision_applied_long_ago_is_enforced_with_all_before_it() {
        let mut enforced = Enforced::default();
        enforced.applied(Revision(3), at(0));
        enforced.applied(Revision(4), at(2));
        assert_eq!(enforced.committed_before(Revision(4)), Some(at(2)));
        enforced.listed(&listing(1, &[]), &EXACT, at(10));
        assert_eq!(enforced.by(Revision(2)), None);
        enforced.listed(&listing(1, &[]), &EXACT, at(11));
        assert_eq!(enforced.by(Revision(2)), Some(EnforcedBy::WaitOut));
        assert_eq!(enforced.by(Revision(4)), None);
        enforced.enforced(Revision(4), EnforcedBy::Acks);
        assert_eq!(enforced.by(Revision(4)), Some(EnforcedBy::Acks));
        assert_eq!(enforced.by(Revision(5)), None, "it was never applied here");
    }

    #[test]
    fn a_listing_from_before_a_revision_was_applied_does_not_enforce_it() {
        let mut enforced = Enforced::default();
        enforced.applied(Revision(3), at(5));
        // A life with longer leases may have begun in between.
        enforced.listed(&listing(4, &[]), &EXACT, at(99));
        assert_eq!(enforced.by(Revision(3)), None);
        enforced.listed(&listing(6, &[100]), &EXACT, at(99));
        assert_eq!(enforced.by(Revision(3)), None, "a life with longer leases has begun");
        enforced.listed(&listing(7, &[100]), &EXACT, at(106));
        assert_eq!(enforced.by(Revision(3)), Some(EnforcedBy::WaitOut));
    }
}
