use std::collections::BTreeMap;

use keyward_domain::{AdminLife, AdminNode};

use crate::admin::barrier::Listing;
use crate::policy::Policy;
use crate::time::Instant;

/// Detects admins without heartbeats, by this admin's own clock: the database's clock may jump.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Watch {
    /// Each life's newest heartbeat, and when this admin first saw it.
    seen: BTreeMap<AdminLife, (i64, Instant)>,
}

impl Watch {
    /// Takes a listing that arrived at `now`. Returns the lives whose rows may be deleted if their heartbeat counters are still
    /// the same: every lease that is chained to their heartbeats has expired.
    pub fn silent(&mut self, listing: &Listing, policy: &Policy, now: Instant) -> Vec<AdminNode> {
        let listed = |life: &AdminLife| listing.nodes.iter().any(|node| node.life == *life);
        self.seen.retain(|life, _| listed(life));
        let mut silent = Vec::new();
        for node in &listing.nodes {
            let seen = self.seen.entry(node.life).or_insert((node.heartbeat, now));
            if seen.0 != node.heartbeat {
                *seen = (node.heartbeat, now);
            }
            if seen.1.plus(policy.held(node.lease)) <= listing.asked {
                silent.push(node.clone());
            }
        }
        silent
    }

    /// The newest heartbeat of `life` that was seen; `None` if it is not in the newest listing.
    pub fn newest(&self, life: AdminLife) -> Option<i64> {
        self.seen.get(&life).map(|(heartbeat, _)| *heartbeat)
    }

    /// This record on a clock whose zero is `now`, for a search through all states. A heartbeat seen before `useless` is old
    /// enough for an eviction. `rename` numbers the heartbeats of a life.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant, rename: impl Fn(AdminLife, i64) -> i64) -> Self {
        let shifted = |at: Instant| at.relative_to(now).max(useless);
        let seen = self.seen.iter().map(|(life, (heartbeat, at))| (*life, (rename(*life, *heartbeat), shifted(*at))));
        Self { seen: seen.collect() }
    }

    /// This record without one life, which is never evicted.
    #[must_use]
    pub fn without(mut self, life: AdminLife) -> Self {
        self.seen.remove(&life);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const EXACT: Policy =
        Policy { lease: Duration::from_secs(2), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(asked: i64, heartbeat: i64) -> Listing {
        let lease = Duration::from_secs(10);
        let node = AdminNode { life: AdminLife::from_bytes([1; 16]), lease, heartbeat, address: None };
        Listing { asked: at(asked), nodes: vec![node] }
    }

    #[test]
    fn a_life_may_be_evicted_once_its_longest_lease_has_expired_without_a_heartbeat() {
        let mut watch = Watch::default();
        let mut silent = |asked, heartbeat, now| watch.silent(&listing(asked, heartbeat), &EXACT, at(now)).len();
        assert_eq!(silent(0, 5, 1), 0);
        assert_eq!(silent(9, 6, 10), 0, "it sent a heartbeat");
        assert_eq!(silent(20, 6, 22), 0, "10 s and the margin count from when it was seen to when it was asked again");
        assert_eq!(silent(21, 6, 21), 1);
        assert_eq!(silent(22, 7, 22), 0, "it sent a heartbeat again");
    }
}
