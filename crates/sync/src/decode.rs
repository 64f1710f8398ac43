//! Decodes an admin's messages into the follower's. An unreadable message ends the session: a validator that does not
//! understand its admin must not answer.

use std::time::Duration;

use keyward_domain::{Epoch, KeyEntry, ProvenPosition, Revision, Timestamp};
use keyward_proto::replica::{self, Delta, Grant, SnapshotChunk};
use keyward_protocol::validator::{Message, Welcome};
use keyward_replica::{TableWriter, TokenKeys};
use keyward_token::{DigestKey, TokenFormat};

use crate::wire::{self, Unreadable};

/// The lease terms of a deployment, from the Welcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// D, the longest lease.
    pub(super) lease: Duration,
    pub(super) renew_interval: Duration,
}

impl Terms {
    /// The terms that are assumed before the Welcome.
    pub(super) const UNKNOWN: Self = Self { lease: Duration::from_secs(10), renew_interval: Duration::from_secs(1) };
}

/// Parses a Welcome.
pub(super) fn welcome(welcome: replica::Welcome) -> Result<(Welcome, TokenKeys, Terms), Unreadable> {
    let terms = terms(&welcome)?;
    let digest_keys = welcome.digest_keys.into_iter().map(digest_key).collect::<Result<Vec<_>, _>>()?;
    if digest_keys.is_empty() {
        return Err(Unreadable("welcome"));
    }
    let keys = TokenKeys {
        format: TokenFormat::new(&welcome.token_prefix).map_err(|_| Unreadable("token_prefix"))?,
        digest_keys,
    };
    let welcome = Welcome {
        epoch: Epoch::from_text(&welcome.epoch).ok_or(Unreadable("epoch"))?,
        snapshot: welcome.snapshot,
        accepted: welcome.epoch_accepted,
        continues: welcome.continues,
    };
    Ok((welcome, keys, terms))
}

/// Parses the lease terms; rejects a Welcome without them.
fn terms(welcome: &replica::Welcome) -> Result<Terms, Unreadable> {
    let policy = welcome.policy.as_ref();
    let required = |field: Option<prost_types::Duration>, name| {
        let value = duration(field.ok_or(Unreadable(name))?)?;
        if value.is_zero() { Err(Unreadable(name)) } else { Ok(value) }
    };
    Ok(Terms {
        lease: required(policy.and_then(|p| p.lease), "lease")?,
        renew_interval: required(policy.and_then(|p| p.renew_interval), "renew_interval")?,
    })
}

/// Parses a part of a snapshot, in a session of that epoch.
pub(super) fn chunk(chunk: SnapshotChunk, epoch: Epoch) -> Result<Message<TableWriter>, Unreadable> {
    let complete = chunk.last.then(|| position(epoch, chunk.revision, &chunk.chain)).transpose()?;
    Ok(Message::Chunk { complete, keys: keys(chunk.keys)? })
}

/// Parses a committed change, in a session of that epoch.
pub(super) fn delta(delta: Delta, epoch: Epoch) -> Result<Message<TableWriter>, Unreadable> {
    let position = position(epoch, delta.revision, &delta.chain)?;
    Ok(Message::Delta { position, keys: keys(delta.keys)?, accepted: delta.epoch_accepted })
}

/// Parses a lease.
pub(super) fn grant(grant: Grant) -> Result<Message<TableWriter>, Unreadable> {
    Ok(Message::Grant {
        seq: grant.seq,
        duration: grant.duration.map(duration).transpose()?.unwrap_or_default(),
        wall_time: Timestamp::from_micros(grant.wall_time_micros),
    })
}

fn digest_key(key: replica::DigestKey) -> Result<DigestKey, Unreadable> {
    Ok(DigestKey::new(key.id, key.key.try_into().map_err(|_| Unreadable("digest key"))?))
}

fn keys(keys: Vec<replica::KeyEntry>) -> Result<Vec<KeyEntry>, Unreadable> {
    keys.into_iter().map(wire::from_key_entry).collect()
}

fn position(epoch: Epoch, revision: i64, chain: &[u8]) -> Result<ProvenPosition, Unreadable> {
    ProvenPosition::from_wire(epoch, Revision(revision), chain).ok_or(Unreadable("chain"))
}

fn duration(duration: prost_types::Duration) -> Result<Duration, Unreadable> {
    duration.try_into().map_err(|_| Unreadable("duration"))
}
