//! Decides if a revision is enforced: at this admin, at all admins, and for a peer that asks.

use keyward_domain::{AdminLife, Position, Revision};

use crate::admin::barrier::{Barrier, Cleared};
use crate::admin::fence::{Fence, FenceId, FenceStatus, Own, PeerBarrier, Pending};
use crate::admin::node::Node;
use crate::time::Instant;

impl Node {
    /// Begins a fence for `revision`, which is committed.
    pub(super) fn begin_fence(&mut self, id: FenceId, revision: Revision, now: Instant) {
        let known = self.cluster.as_ref().and_then(|cluster| cluster.enforced.committed_before(revision));
        // The earlier the commit is known to be, the shorter the wait.
        let barrier = Barrier::new(known.unwrap_or(now));
        self.fences.insert(id, Fence { revision, barrier, history_changed: false });
    }

    pub(super) fn peer_cleared(&mut self, id: FenceId, life: AdminLife, cleared: Cleared) {
        if let Some(fence) = self.fences.get_mut(&id) {
            fence.barrier.cleared(life, cleared);
        }
    }

    /// The status of a fence at `now`.
    pub fn fence(&mut self, id: FenceId, now: Instant) -> FenceStatus {
        let Some(Fence { revision, history_changed: false, .. }) = self.fences.get(&id) else {
            return FenceStatus::HistoryChanged;
        };
        let revision = *revision;
        if self.history.is_in_doubt() {
            return FenceStatus::Pending(Pending {
                acked: 0,
                lapsed: 0,
                missing: 1,
                only_peers: false,
                next_check: None,
            });
        }
        let own = self.own(revision, now);
        let (is_applied, policy) = (self.history.head().revision >= revision, *self.policy());
        let Some(cluster) = &mut self.cluster else { return own.status() };
        let elsewhere = cluster.elsewhere();
        if elsewhere == 0 {
            cluster.enforced.listed(&cluster.listing, &policy, now);
        }
        if let Some(by) = cluster.enforced.by(revision) {
            return FenceStatus::Enforced { acked: own.cleared.acked, lapsed: own.cleared.lapsed, by };
        }
        if elsewhere > 0 {
            let Own { cleared: Cleared { acked, lapsed }, missing, .. } = own;
            let missing = missing + elsewhere;
            return FenceStatus::Pending(Pending { acked, lapsed, missing, only_peers: false, next_check: None });
        }
        let Some(fence) = self.fences.get_mut(&id) else { return FenceStatus::HistoryChanged };
        let status = fence.status(own, cluster, is_applied, &policy, now);
        if let FenceStatus::Enforced { by, .. } = status {
            cluster.enforced.enforced(revision, by);
        }
        status
    }

    /// Returns `true` if `revision` is known to be enforced at `now`.
    pub fn is_enforced(&mut self, revision: Revision, now: Instant) -> bool {
        if self.history.is_in_doubt() {
            return false;
        }
        let policy = *self.policy();
        match &mut self.cluster {
            Some(cluster) => {
                if cluster.elsewhere() == 0 {
                    cluster.enforced.listed(&cluster.listing, &policy, now);
                }
                cluster.enforced.by(revision).is_some()
            }
            None => self.own(revision, now).missing == 0,
        }
    }

    /// Answers a peer that waits for `position` and believes this admin to be in `life`.
    pub fn peer_barrier(&self, life: AdminLife, position: &Position, now: Instant) -> PeerBarrier {
        let is_that_life = self.cluster.as_ref().is_some_and(|cluster| cluster.life == life);
        let head = self.history.head();
        let follows = if head.revision < position.revision {
            head.epoch == position.epoch
        } else {
            // The revision alone proves little: another history has a change of the same number.
            self.history.position_at(position.revision).as_ref() == Some(position)
        };
        if self.history.is_in_doubt() || !is_that_life || !follows {
            return PeerBarrier::NotHere;
        }
        let Own { cleared, missing, next_check } = self.own(position.revision, now);
        if missing == 0 {
            return PeerBarrier::Cleared(cleared);
        }
        PeerBarrier::Pending(Pending {
            acked: cleared.acked,
            lapsed: cleared.lapsed,
            missing,
            only_peers: false,
            next_check,
        })
    }

    fn own(&self, revision: Revision, now: Instant) -> Own {
        if self.history.head().revision < revision {
            // The delta is not queued yet: every session may answer from before, and further sessions may join.
            let missing = self.sessions.connected().max(1);
            return Own { cleared: Cleared::default(), missing, next_check: None };
        }
        let sum = self.sessions.enforcement(revision, now);
        let cleared = Cleared { acked: sum.acked, lapsed: sum.lapsed };
        Own { cleared, missing: sum.missing, next_check: sum.next_lapse }
    }
}
