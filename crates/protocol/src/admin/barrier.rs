use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode};

use crate::policy::Policy;
use crate::time::Instant;

/// The rows of `admin_node`: the admins that share a database, this one included.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Listing {
    /// This admin's clock before the query was sent; [`Instant::MIN`] before the first query.
    pub asked: Instant,
    /// One row for each life that may have leases in use.
    pub nodes: Vec<AdminNode>,
}

impl Default for Listing {
    /// No listing: older than every commit, so no fence accepts it.
    fn default() -> Self {
        Self { asked: Instant::MIN, nodes: Vec::new() }
    }
}

impl Listing {
    /// D' by the longest lease among those in the listing and this admin's own.
    pub fn longest_wait(&self, policy: &Policy) -> Duration {
        self.nodes.iter().map(|node| policy.held(node.lease)).fold(policy.wait_out(), Duration::max)
    }
}

/// The wait for leases that peers granted, after one change.
///
/// Every life whose leases may be used without the change is listed after the commit. The only exception is a life that was
/// evicted, because its leases had expired. Leases that may be used without the change end D' after the commit at the
/// latest, because each is chained to a [`crate::Basis`] from before the commit.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Barrier {
    /// On this admin's clock, when the commit was known.
    committed: Instant,
    /// Peers that may have leases in use; `None` before the first listing.
    peers: Option<Peers>,
    /// What each peer answered about its own validators.
    cleared: BTreeMap<AdminLife, Cleared>,
    /// Peers that were awaited and whose rows are gone: they were evicted because their leases had expired, or have left.
    lapsed: usize,
}

/// A peer's answer that none of its validators can answer from before the change.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Cleared {
    /// Sessions that acknowledged the change.
    pub acked: usize,
    /// Sessions whose leases expired instead.
    pub lapsed: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Peers {
    awaited: BTreeSet<AdminLife>,
    /// D' by the longest of all leases.
    wait_out: Duration,
}

/// The state of a [`Barrier`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BarrierStatus {
    /// No listing has arrived since the commit.
    Unlisted,
    /// Leases that peers granted before the change may be in use.
    Blocked {
        /// How many peers have not answered.
        peers: usize,
        /// When the last of their leases has expired.
        until: Instant,
    },
    /// No peer has a lease from before the change in use: there is no peer, or each has answered.
    Clear,
    /// Every lease from before the change has expired, this admin's included.
    WaitedOut,
}

impl Barrier {
    /// The barrier for a change that was known to be committed at `committed`.
    pub const fn new(committed: Instant) -> Self {
        Self { committed, peers: None, cleared: BTreeMap::new(), lapsed: 0 }
    }

    /// On this admin's clock, when the commit was known.
    pub const fn committed(&self) -> Instant {
        self.committed
    }

    /// Takes a listing. `own`: the life that waits. A listing that was queried before the commit is ignored.
    pub fn listed(&mut self, own: AdminLife, listing: &Listing, policy: &Policy) {
        if listing.asked < self.committed {
            return;
        }
        let nodes = || listing.nodes.iter().filter(|node| node.life != own);
        let peers = self.peers.get_or_insert_with(|| Peers {
            awaited: nodes().map(|node| node.life).collect(),
            wait_out: listing.longest_wait(policy),
        });
        // Lives that are missing from the first listing read the log after the commit.
        let before = peers.awaited.len();
        let is_answered = |life: &AdminLife| self.cleared.contains_key(life);
        peers.awaited.retain(|life| is_answered(life) || nodes().any(|node| node.life == *life));
        self.lapsed += before - peers.awaited.len();
    }

    /// Takes a peer's answer about its own validators. The peer may be asked before it is listed; its answer stays valid,
    /// because whatever the peer sends a validator before the next grant includes the change.
    pub fn cleared(&mut self, life: AdminLife, cleared: Cleared) {
        self.cleared.insert(life, cleared);
    }

    /// The sum of the peers' answers. A peer whose row is gone without an answer counts as one lease that expired.
    pub fn sum(&self) -> Cleared {
        let gone = Cleared { acked: 0, lapsed: self.lapsed };
        self.cleared
            .values()
            .fold(gone, |sum, each| Cleared { acked: sum.acked + each.acked, lapsed: sum.lapsed + each.lapsed })
    }

    /// The state of the wait at `now`.
    pub fn status(&self, now: Instant) -> BarrierStatus {
        let Some(peers) = &self.peers else { return BarrierStatus::Unlisted };
        let until = self.committed.plus(peers.wait_out);
        match peers.awaited.iter().filter(|life| !self.cleared.contains_key(life)).count() {
            _ if until <= now => BarrierStatus::WaitedOut,
            0 => BarrierStatus::Clear,
            peers => BarrierStatus::Blocked { peers, until },
        }
    }

    /// This barrier on a clock whose zero is `now`, for a search through all states. A commit before `useless` has been
    /// waited out.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let committed = self.committed.relative_to(now).max(useless);
        Self { committed, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Policy =
        Policy { lease: Duration::from_secs(10), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };
    const OWN: AdminLife = AdminLife::from_bytes([0; 16]);

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(asked: i64, others: &[(u8, u64)]) -> Listing {
        let node = |life, seconds| AdminNode { life, lease: Duration::from_secs(seconds), heartbeat: 1, address: None };
        let others = others.iter().map(|(life, seconds)| node(AdminLife::from_bytes([*life; 16]), *seconds));
        Listing { asked: at(asked), nodes: others.chain([node(OWN, 10)]).collect() }
    }

    fn listed(barrier: &mut Barrier, asked: i64, others: &[(u8, u64)]) {
        barrier.listed(OWN, &listing(asked, others), &EXACT);
    }

    #[test]
    fn a_listing_from_before_the_commit_is_ignored() {
        let mut barrier = Barrier::new(at(5));
        listed(&mut barrier, 4, &[]);
        assert_eq!(barrier.status(at(100)), BarrierStatus::Unlisted);
        listed(&mut barrier, 5, &[]);
        assert_eq!(barrier.status(at(6)), BarrierStatus::Clear);
    }

    #[test]
    fn before_the_first_listing_no_barrier_is_clear() {
        // The clock of a machine that has just booted.
        let mut barrier = Barrier::new(at(0));
        barrier.listed(OWN, &Listing::default(), &EXACT);
        assert_eq!(barrier.status(at(100)), BarrierStatus::Unlisted);
    }

    #[test]
    fn peers_are_awaited_until_their_rows_are_gone_or_every_lease_has_expired() {
        let mut barrier = Barrier::new(at(0));
        listed(&mut barrier, 1, &[(1, 10), (2, 10)]);
        assert_eq!(barrier.status(at(1)), BarrierStatus::Blocked { peers: 2, until: at(11) });
        listed(&mut barrier, 2, &[(2, 10), (3, 10)]);
        assert_eq!(
            barrier.status(at(2)),
            BarrierStatus::Blocked { peers: 1, until: at(11) },
            "3 began after the commit"
        );
        assert_eq!(barrier.status(at(11)), BarrierStatus::WaitedOut);
        listed(&mut barrier, 3, &[(3, 10)]);
        assert_eq!(barrier.status(at(3)), BarrierStatus::Clear);
    }

    #[test]
    fn a_peer_that_has_answered_is_no_longer_awaited() {
        let other = |n| AdminLife::from_bytes([n; 16]);
        let mut barrier = Barrier::new(at(0));
        // Asked before the first listing of this barrier.
        barrier.cleared(other(1), Cleared { acked: 2, lapsed: 0 });
        assert_eq!(barrier.status(at(0)), BarrierStatus::Unlisted, "more peers may be listed");
        listed(&mut barrier, 1, &[(1, 10), (2, 10)]);
        assert_eq!(barrier.status(at(1)), BarrierStatus::Blocked { peers: 1, until: at(11) });
        barrier.cleared(other(2), Cleared { acked: 1, lapsed: 1 });
        assert_eq!(barrier.status(at(1)), BarrierStatus::Clear);
        assert_eq!(barrier.sum(), Cleared { acked: 3, lapsed: 1 });
    }

    #[test]
    fn longer_leases_of_peers_are_waited_out_in_full() {
        let mut barrier = Barrier::new(at(0));
        listed(&mut barrier, 0, &[(1, 60)]);
        listed(&mut barrier, 1, &[(1, 60)]);
        assert_eq!(barrier.status(at(60)), BarrierStatus::Blocked { peers: 1, until: at(61) });
        assert_eq!(barrier.status(at(61)), BarrierStatus::WaitedOut);
    }
}
