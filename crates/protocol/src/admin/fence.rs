use keyward_domain::Revision;

use crate::admin::barrier::{Barrier, BarrierStatus, Cleared};
use crate::admin::cluster::Cluster;
use crate::admin::enforced::EnforcedBy;
use crate::policy::Policy;
use crate::time::Instant;

/// Numbers the fences of one admin process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FenceId(pub u64);

/// The wait of one committed change.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Fence {
    pub(super) revision: Revision,
    pub(super) barrier: Barrier,
    /// The history has changed since the fence began: the revision may be another change now, or none.
    pub(super) history_changed: bool,
}

/// The status of a fence: if a validator can still answer from before its revision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FenceStatus {
    /// No validator can answer from before the revision.
    Enforced {
        /// Sessions that acknowledged.
        acked: usize,
        /// Sessions and earlier lives whose leases expired instead.
        lapsed: usize,
        /// How the revision came to be enforced.
        by: EnforcedBy,
    },
    /// Some validators may still answer from before the revision.
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
    /// No validator of this admin can answer from before the position, now or later.
    Cleared(Cleared),
    /// Some validators may still answer from before the position.
    Pending(Pending),
    /// This admin cannot answer: it is not in that life, it follows another history, or it is in doubt about its own.
    NotHere,
}

/// How far the validators of this admin have come.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) cleared: Cleared,
    pub(super) missing: usize,
    pub(super) next_check: Option<Instant>,
}

impl Fence {
    pub(super) const fn history_changed(&mut self) {
        self.history_changed = true;
    }

    /// When the commit was known.
    pub(super) const fn committed(&self) -> Instant {
        self.barrier.committed()
    }

    /// See [`Node::canonical`].
    pub(super) fn canonical(&self, now: Instant, useless: Instant) -> Self {
        Self { barrier: self.barrier.canonical(now, useless), ..self.clone() }
    }
}

impl Own {
    pub(super) const fn status(self) -> FenceStatus {
        let Self { cleared: Cleared { acked, lapsed }, missing, next_check } = self;
        if missing > 0 {
            return FenceStatus::Pending(Pending { acked, lapsed, missing, only_peers: false, next_check });
        }
        FenceStatus::Enforced { acked, lapsed, by: if lapsed > 0 { EnforcedBy::WaitOut } else { EnforcedBy::Acks } }
    }
}

impl Fence {
    /// Combines this admin's validators with those of the peers. `is_applied`: this admin has applied the fence's revision.
    pub(super) fn status(
        &mut self,
        own: Own,
        cluster: &Cluster,
        is_applied: bool,
        policy: &Policy,
        now: Instant,
    ) -> FenceStatus {
        let barrier = &mut self.barrier;
        barrier.listed(cluster.life, &cluster.listing, policy);
        let theirs = barrier.sum();
        let cleared = Cleared { acked: own.cleared.acked + theirs.acked, lapsed: own.cleared.lapsed + theirs.lapsed };
        let (missing, next_check) = (own.missing, own.next_check);
        match barrier.status(now) {
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
        }
    }
}
