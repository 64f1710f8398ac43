use keyward_domain::{AdminLife, Position, Revision};

use crate::admin::barrier::{Barrier, BarrierStatus, Cleared};
use crate::admin::enforced::EnforcedBy;
use crate::admin::node::{Cluster, Node};
use crate::time::Instant;

/// Numbers the fences of one admin process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FenceId(pub u64);

/// The wait of one committed change.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Fence {
    revision: Revision,
    barrier: Barrier,
    /// The history has changed since the fence began: the revision may be another change now, or none.
    history_changed: bool,
}

/// Whether a validator can still answer from before a revision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FenceStatus {
    /// None can.
    Enforced {
        /// Sessions that acknowledged.
        acked: usize,
        /// Sessions and earlier lives whose leases expired instead.
        lapsed: usize,
        /// How the revision came to be enforced.
        by: EnforcedBy,
    },
    /// Some may.
    Pending(Pending),
    /// The history of the database has changed since the fence began: the revision may be another change now, or none.
    HistoryChanged,
}

/// What a fence waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pending {
    /// Sessions that acknowledged.
    pub acked: usize,
    /// Sessions and earlier lives whose leases expired instead.
    pub lapsed: usize,
    /// Sessions, earlier lives and peers whose validators may still answer from before the revision; at least 1.
    pub missing: usize,
    /// `true` if only validators of peers are awaited.
    pub only_peers: bool,
    /// When the status can change without an event; `None` if only an event can change it.
    pub next_check: Option<Instant>,
}

/// The answer to a peer that asks whether this admin's validators can still answer from before a position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerBarrier {
    /// None can, nor ever will.
    Cleared(Cleared),
    /// Some may.
    Pending(Pending),
    /// This admin cannot answer: it is not in that life, it follows another history, or it is in doubt about its own.
    NotHere,
}

/// How far the validators of this admin have come.
struct Own {
    cleared: Cleared,
    missing: usize,
    next_check: Option<Instant>,
}

impl Fence {
    pub(super) const fn history_changed(&mut self) {
        self.history_changed = true;
    }
}

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
        let Some(Fence { revision, barrier, history_changed }) = self.fences.get(&id).cloned() else {
            return FenceStatus::HistoryChanged;
        };
        if history_changed {
            return FenceStatus::HistoryChanged;
        }
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
        cluster.enforced.listed(&cluster.listing, &policy, now);
        if let Some(by) = cluster.enforced.by(revision) {
            return FenceStatus::Enforced { acked: own.cleared.acked, lapsed: own.cleared.lapsed, by };
        }
        let (status, barrier) = cluster.wait(own, barrier, is_applied, &policy, now);
        if let FenceStatus::Enforced { by, .. } = status {
            cluster.enforced.enforced(revision, by);
        }
        if let Some(fence) = self.fences.get_mut(&id) {
            fence.barrier = barrier;
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
                cluster.enforced.listed(&cluster.listing, &policy, now);
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

impl Own {
    const fn status(self) -> FenceStatus {
        let Self { cleared: Cleared { acked, lapsed }, missing, next_check } = self;
        if missing > 0 {
            return FenceStatus::Pending(Pending { acked, lapsed, missing, only_peers: false, next_check });
        }
        FenceStatus::Enforced { acked, lapsed, by: if lapsed > 0 { EnforcedBy::WaitOut } else { EnforcedBy::Acks } }
    }
}

impl Cluster {
    /// Combines this admin's validators with those of the peers.
    fn wait(
        &self,
        own: Own,
        mut barrier: Barrier,
        is_applied: bool,
        policy: &crate::Policy,
        now: Instant,
    ) -> (FenceStatus, Barrier) {
        barrier.listed(self.life, &self.listing, policy);
        let theirs = barrier.sum();
        let cleared = Cleared { acked: own.cleared.acked + theirs.acked, lapsed: own.cleared.lapsed + theirs.lapsed };
        let (missing, next_check) = (own.missing, own.next_check);
        let status = match barrier.status(now) {
            BarrierStatus::Unlisted => Own { cleared, missing: missing + 1, next_check }.status(),
            BarrierStatus::Blocked { peers, until } => FenceStatus::Pending(Pending {
                acked: cleared.acked,
                lapsed: cleared.lapsed,
                missing: missing + peers,
                only_peers: missing == 0,
                next_check: Some(next_check.map_or(until, |at| at.min(until))),
            }),
            // A change that this admin has not applied may be lost: waiting leases out does not enforce it.
            BarrierStatus::WaitedOut if is_applied => FenceStatus::Enforced {
                acked: cleared.acked,
                lapsed: cleared.lapsed + missing,
                by: EnforcedBy::WaitOut,
            },
            BarrierStatus::Clear | BarrierStatus::WaitedOut => Own { cleared, missing, next_check }.status(),
        };
        (status, barrier)
    }
}
