//! Canonical forms of a [`Node`], for a search through all its states: nodes that will do the same become equal.

use std::time::Duration;

use keyward_domain::AdminLife;

use crate::admin::barrier::Listing;
use crate::admin::cluster::Cluster;
use crate::admin::enforced::Enforced;
use crate::admin::fence::Fence;
use crate::admin::node::Node;
use crate::admin::sessions::SessionId;
use crate::admin::watch::Watch;
use crate::time::Instant;

impl Node {
    /// This node on a clock whose zero is `now`. Instants that are too long ago to decide anything become equal; an answer
    /// to a heartbeat that is older than D' is taken as one of that age. `session` numbers the sessions that have a stream,
    /// and `heartbeat` numbers the heartbeats of a life, in an order that keeps different ones different.
    #[must_use]
    pub fn canonical(
        &self,
        now: Instant,
        session: impl Fn(SessionId) -> SessionId,
        heartbeat: impl Fn(AdminLife, i64) -> i64,
    ) -> Self {
        let wait_out = self.longest_wait();
        let waited_out = Instant::default().minus(wait_out);
        let fences = self.fences.iter().map(|(id, fence)| (*id, fence.canonical(now, waited_out))).collect();
        // A wait that is no longer than the one of this life's own leases changes nothing.
        let former_wait = if self.former_wait > self.policy().wait_out() { self.former_wait } else { Duration::ZERO };
        Self {
            history: self.history.clone(),
            sessions: self.sessions.canonical(now, session),
            former_wait,
            cluster: self.cluster.as_ref().map(|cluster| self.canonical_cluster(cluster, now, wait_out, heartbeat)),
            fences,
        }
    }

    fn canonical_cluster(
        &self,
        cluster: &Cluster,
        now: Instant,
        wait_out: Duration,
        heartbeat: impl Fn(AdminLife, i64) -> i64,
    ) -> Cluster {
        let policy = self.policy();
        let zero = Instant::default();
        let waited_out = zero.minus(wait_out);
        // No more than the margin is left of a lease that is chained to this instant.
        let no_grant = zero.minus(policy.lease.saturating_sub(policy.clock_margin));
        let shifted = |at: Instant| at.relative_to(now).max(waited_out);
        let mut listing = cluster.listing.clone();
        // Only the order matters, among the changes that a fence or `Enforced` has on record, and changes from now on.
        let recorded = self.fences.values().map(Fence::committed).chain(cluster.enforced.recorded());
        if listing.asked < now {
            listing.asked = recorded.filter(|at| *at <= listing.asked).max().map_or(Instant::MIN, shifted);
        } else {
            listing.asked = shifted(listing.asked);
        }
        // Only `Watch` compares heartbeats of two listings.
        listing.nodes.iter_mut().for_each(|node| node.heartbeat = 0);
        let mut sent = cluster.heartbeat;
        sent.iter_mut().for_each(|heartbeat| heartbeat.sent = shifted(heartbeat.sent));
        Cluster {
            life: cluster.life,
            basis: cluster.basis.canonical(now, no_grant),
            listing,
            enforced: cluster.enforced.canonical(now, waited_out),
            // The listing of an answer may be as old as `waited_out`.
            watch: cluster.watch.canonical(now, waited_out.minus(wait_out), heartbeat).without(cluster.life),
            heartbeat: sent,
            answered: cluster.answered.map(shifted),
        }
    }

    /// The newest heartbeat of `life` that this node has seen; `None` if its newest listing does not contain the life.
    pub fn newest_heartbeat(&self, life: AdminLife) -> Option<i64> {
        self.cluster.as_ref().and_then(|cluster| cluster.watch.newest(life))
    }

    /// Drops the last heartbeat, once its answer is lost.
    pub fn drop_heartbeat(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.heartbeat = None;
        }
    }

    /// Drops the instant of the newest answered heartbeat, for a search in which no peer asks for it.
    pub fn drop_answered_heartbeat(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.answered = None;
        }
    }

    /// Drops what only evictions depend on, for a search in which this node evicts no life.
    pub fn drop_evictions(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.watch = Watch::default();
        }
    }

    /// Drops leases that no queued delta waits for, for a search in which no change follows.
    pub fn drop_leases_of_no_delta(&mut self) {
        self.sessions = self.sessions.after_the_last_delta();
    }

    /// Drops this node's own fences and what they depend on, for a search in which none follows. Peers may still ask.
    pub fn drop_fences(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            (cluster.listing, cluster.enforced) = (Listing::default(), Enforced::default());
        }
        self.fences.clear();
    }

    /// Drops everything but what grants depend on, for a search in which no fence, eviction or fork follows.
    pub fn keep_only_grants(&mut self) {
        self.drop_fences();
        self.drop_evictions();
        self.sessions = self.sessions.without_leases();
    }
}
