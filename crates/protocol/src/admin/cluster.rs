use keyward_domain::{AdminLife, AdminNode, Epoch, Position, Revision};

use crate::admin::barrier::Listing;
use crate::admin::basis::Basis;
use crate::admin::enforced::Enforced;
use crate::admin::watch::{Silent, Watch};
use crate::policy::Policy;
use crate::time::Instant;

/// The part of a node that has peers: other admins over the same database.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Cluster {
    pub(super) life: AdminLife,
    pub(super) basis: Basis,
    /// The newest listing of this history.
    pub(super) listing: Listing,
    pub(super) enforced: Enforced,
    pub(super) watch: Watch,
    /// The heartbeat that has no answer yet.
    pub(super) heartbeat: Option<SentHeartbeat>,
    /// When the newest heartbeat of this life was sent that the database has answered.
    pub(super) answered: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct SentHeartbeat {
    pub(super) sent: Instant,
    /// The epoch that was followed.
    pub(super) epoch: Epoch,
    /// The newest position that was known to be in the log.
    pub(super) known: Position,
}

impl Cluster {
    /// The record of a life that is registered, at an admin that has applied everything up to `applied`.
    pub(super) fn new(life: AdminLife, applied: Revision, now: Instant) -> Self {
        let mut cluster = Self {
            life,
            basis: Basis::default(),
            listing: Listing::default(),
            enforced: Enforced::default(),
            watch: Watch::default(),
            heartbeat: None,
            answered: None,
        };
        cluster.applied(applied, now);
        cluster
    }

    pub(super) fn applied(&mut self, revision: Revision, now: Instant) {
        self.basis.applied(revision);
        self.enforced.applied(revision, now);
    }

    /// Drops what was found out in one history, because it does not hold in another.
    pub(super) fn forget_findings(&mut self) {
        self.basis.drop_basis();
        self.enforced = Enforced::default();
    }

    /// The lives of other admins that may have leases in use.
    pub(super) fn peers(&self) -> impl Iterator<Item = &AdminNode> {
        self.listing.nodes.iter().filter(|node| node.life != self.life)
    }

    /// Takes a listing; returns the other admins without heartbeats.
    pub(super) fn listed(&mut self, listing: Listing, policy: &Policy, now: Instant) -> Silent {
        self.listing = listing;
        let mut silent = self.watch.listed(&self.listing, policy, now);
        silent.evict.retain(|node| node.life != self.life);
        silent.ask.retain(|node| node.life != self.life);
        if self.elsewhere() == 0 {
            self.enforced.listed(&self.listing, policy, now);
        }
        silent
    }

    /// The number of peers whose heartbeats reach another database server. While there is one, nothing new is enforced: its
    /// validators do not receive the changes of this database.
    pub(super) fn elsewhere(&self) -> usize {
        self.watch.elsewhere().filter(|life| *life != self.life).count()
    }
}
