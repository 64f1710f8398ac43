//! The change log's coordinates: [`Revision`], [`Epoch`], [`Position`], and the [`AdminLife`] of a process that follows it.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::uuid_id::uuid_id;

/// Number of an entry in the change log: from 1, gapless, in commit order. 0 is the empty log.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Display for Revision {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

uuid_id!(
    /// One history of the database: a random UUID (version 4). A database that lost changes, such as after a restore or a
    /// failover to a server without the last commits, continues in a new epoch.
    Epoch
);

uuid_id!(
    /// One start of one admin process: a UUID (version 7) that is never reused, and the key of its row in `admin_node`. Leases
    /// belong to a life: a process that starts again does not know the leases of the process before it.
    AdminLife
);

impl Epoch {
    /// A new random epoch.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl AdminLife {
    /// The id of a life that begins now.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

/// A position in the change log. Two logs that agree on a position agree on every entry up to it, because the chain value
/// covers them all.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The history that the log belongs to.
    pub epoch: Epoch,
    /// The newest entry that the position covers.
    pub revision: Revision,
    /// The hash chain's value at that entry.
    pub chain: [u8; 32],
}

/// A position with a MAC over it. The MAC proves to an admin with the same keyring that an admin named the position, so that a
/// made-up position cannot make a database appear to have lost changes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ProvenPosition {
    /// The position.
    pub position: Position,
    /// The MAC.
    pub mac: [u8; 32],
}

impl ProvenPosition {
    /// The position of `revision` in `epoch`, from the 64 bytes of the replica protocol: the chain value, then the MAC. `None`
    /// if there are not 64 bytes.
    pub fn from_wire(epoch: Epoch, revision: Revision, chain: &[u8]) -> Option<Self> {
        let (chain, mac) = chain.split_first_chunk::<32>()?;
        Some(Self { position: Position { epoch, revision, chain: *chain }, mac: mac.try_into().ok()? })
    }

    /// The 64 bytes of the replica protocol: the chain value, then the MAC.
    pub fn to_wire(&self) -> Vec<u8> {
        [self.position.chain, self.mac].concat()
    }
}
