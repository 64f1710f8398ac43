//! The hash chain: each entry carries a keyed hash over itself and the hash of the entry before it.

use keyward_domain::{Change, Entry, MemberId, Position, Timestamp};
use keyward_token::{Digest, DigestKey};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait};

use crate::connection::Transaction;
use crate::convert::to_chain;
use crate::entity::change;
use crate::error::{TxError, corrupt};

/// Who makes a change, as its log entry records it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    /// The member.
    pub(crate) member: &'a MemberId,
    /// The digest of the credential that authenticated the member; `None` if Keyward itself acts in the member's name.
    pub(crate) credential: Option<&'a Digest>,
}

/// Writes the entry that follows `head`, and returns its position. The caller holds the lock on the head and moves it.
pub(crate) async fn append(
    tx: &Transaction,
    key: &DigestKey,
    head: &Position,
    time: Timestamp,
    author: Author<'_>,
    change: &Change,
) -> Result<Position, TxError> {
    let mut row = change::Model {
        revision: head.revision.next().0,
        chain: Vec::new(),
        time: time.as_micros(),
        actor: author.member.to_string(),
        resource: change.resource(),
        project_id: change.project().map(ToString::to_string),
        change: Entry::to_json(change, author.credential).map_err(corrupt)?,
    };
    let chain = chain_value(&row, key, &head.chain);
    row.chain = chain.to_vec();
    // `reset_all` marks every column as set: sea-orm takes the columns of a model for stored already.
    change::ActiveModel::from(row).reset_all().insert(tx).await?;
    Ok(Position { epoch: head.epoch, revision: head.revision.next(), chain })
}

/// The chain value of an entry: keyed BLAKE3 over the previous value and every column except the chain value itself and
/// `project_id`, which the change implies. Each text is preceded by its length, so that no two entries hash alike.
pub(crate) fn chain_value(row: &change::Model, key: &DigestKey, previous: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(previous);
    hasher.update(&row.revision.to_be_bytes());
    hasher.update(&row.time.to_be_bytes());
    for text in [&row.actor, &row.resource, &row.change] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The entry at a revision. `None` if the log lacks it, or its chain value is not the one over the entry and the entry before
/// it, which only an admin with this keyring can compute.
pub(crate) async fn entry_at(
    db: &impl ConnectionTrait,
    key: &DigestKey,
    revision: i64,
) -> Result<Option<change::Model>, DbErr> {
    let Some(row) = change::Entity::find_by_id(revision).one(db).await? else { return Ok(None) };
    let before = change::Entity::find_by_id(revision.saturating_sub(1)).one(db).await?;
    let Ok(previous) = before.map_or(Ok([0; 32]), |before| to_chain(&before.chain)) else { return Ok(None) };
    let is_written = row.chain == chain_value(&row, key, &previous);
    Ok(is_written.then_some(row))
}
