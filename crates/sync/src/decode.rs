//! The wire's messages as the follower takes them. One that cannot be read ends the session, and with it the lease: a
//! validator that does not understand its admin must not answer.

use std::time::Duration;

use keyward_domain::{KeyEntry, Revision, Timestamp};
use keyward_proto::replica::sync_response::Message as Said;
use keyward_proto::replica::{self, Welcome};
use keyward_replica::{HistoryStanding, Message, Position};
use keyward_token::{DigestKey, TokenFormat};

use crate::wire::{self, Unreadable};

/// The admin's message, or `None` for a Goodbye.
pub(super) fn message(said: Said) -> Result<Option<Message>, Unreadable> {
    Ok(Some(match said {
        Said::Welcome(welcome) => self::welcome(welcome)?,
        Said::SnapshotChunk(chunk) => Message::Chunk {
            complete: chunk.last.then(|| position(chunk.revision, chunk.chain)),
            keys: keys(chunk.keys)?,
        },
        Said::Delta(delta) => {
            let position = position(delta.revision, delta.chain);
            Message::Delta { position, keys: keys(delta.keys)?, accepted: delta.epoch_accepted }
        }
        Said::Grant(grant) => Message::Grant {
            seq: grant.seq,
            duration: grant.duration.map(duration).transpose()?.unwrap_or_default(),
            wall_time: Timestamp::from_micros(grant.wall_time_micros),
        },
        Said::Goodbye(_) => return Ok(None),
    }))
}

fn welcome(welcome: Welcome) -> Result<Message, Unreadable> {
    let digest_keys = welcome.digest_keys.into_iter().map(digest_key).collect::<Result<Vec<_>, _>>()?;
    if digest_keys.is_empty() || welcome.epoch.is_empty() {
        return Err(Unreadable("welcome"));
    }
    Ok(Message::Welcome {
        epoch: welcome.epoch,
        digest_keys,
        format: TokenFormat::new(&welcome.token_prefix).map_err(|_| Unreadable("token_prefix"))?,
        snapshot: welcome.snapshot,
        standing: HistoryStanding { accepted: welcome.epoch_accepted, continues: welcome.continues },
    })
}

/// How leases go, as the cluster has agreed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The longest that a grant gives.
    pub(super) lease: Duration,
    pub(super) renew_interval: Duration,
}

impl Terms {
    /// Until the Welcome says better.
    pub(super) const UNKNOWN: Self = Self { lease: Duration::from_secs(10), renew_interval: Duration::from_secs(1) };
}

/// How leases go; a Welcome that does not say is of no version that we know.
pub(super) fn terms(welcome: &Welcome) -> Result<Terms, Unreadable> {
    let policy = welcome.policy.as_ref();
    let told = |field: Option<prost_types::Duration>, name| {
        let told = duration(field.ok_or(Unreadable(name))?)?;
        if told.is_zero() { Err(Unreadable(name)) } else { Ok(told) }
    };
    Ok(Terms {
        lease: told(policy.and_then(|p| p.lease), "lease")?,
        renew_interval: told(policy.and_then(|p| p.renew_interval), "renew_interval")?,
    })
}

fn digest_key(key: replica::DigestKey) -> Result<DigestKey, Unreadable> {
    Ok(DigestKey::new(key.id, key.key.try_into().map_err(|_| Unreadable("digest key"))?))
}

fn keys(keys: Vec<replica::KeyEntry>) -> Result<Vec<KeyEntry>, Unreadable> {
    keys.into_iter().map(wire::from_key_entry).collect()
}

const fn position(revision: i64, chain: Vec<u8>) -> Position {
    Position { revision: Revision(revision), chain }
}

fn duration(duration: prost_types::Duration) -> Result<Duration, Unreadable> {
    duration.try_into().map_err(|_| Unreadable("duration"))
}
