//! The head of the log: the row with the newest position, and its MAC.

use keyward_domain::{Epoch, Error, Position, Revision};
use keyward_token::DigestKey;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryOrder, QuerySelect};

use crate::connection::Transaction;
use crate::convert::to_chain;
use crate::entity::{change, counter};
use crate::error::{TxError, corrupt, from_driver};
use crate::log::chain::chain_value;
use crate::store::Store;

impl Store {
    /// The newest committed position of the log.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn head(&self) -> Result<Position, Error> {
        read_head(&self.reader()).await
    }
}

/// The head, without a check of its MAC.
pub(crate) async fn read_head(db: &impl ConnectionTrait) -> Result<Position, Error> {
    let row = find_head(db).await.map_err(from_driver)?.ok_or_else(|| corrupt("no revision counter"))?;
    to_position(&row)
}

/// The row of the head; `None` in a database that is not initialized.
pub(crate) async fn find_head(db: &impl ConnectionTrait) -> Result<Option<counter::Model>, DbErr> {
    counter::Entity::find_by_id(1).one(db).await
}

/// Locks the head until the transaction ends, and returns it.
///
/// # Errors
/// `INTERNAL` if the MAC does not match. Writing on would cover up for good that the head was changed outside Keyward.
pub(crate) async fn lock_head(tx: &Transaction, key: &DigestKey) -> Result<Position, TxError> {
    let row = counter::Entity::find_by_id(1).lock_exclusive().one(tx).await?;
    let row = row.ok_or_else(|| corrupt("no revision counter"))?;
    let head = to_position(&row)?;
    if row.mac.is_none_or(|found| found != mac(key, &head)) {
        return Err(corrupt("the head of the change log was changed outside Keyward").into());
    }
    Ok(head)
}

/// Creates the head of an empty log in a new epoch. The caller appends an entry and moves the head in the same transaction.
pub(crate) async fn create_head(tx: &Transaction) -> Result<Position, TxError> {
    let head = Position { epoch: Epoch::generate(), revision: Revision(0), chain: [0; 32] };
    to_row(&head, None).insert(tx).await?;
    Ok(head)
}

/// Moves the head to the end of what the transaction has appended.
pub(crate) async fn move_head(tx: &Transaction, key: &DigestKey, head: &Position) -> Result<(), TxError> {
    to_row(head, Some(mac(key, head))).update(tx).await?;
    Ok(())
}

/// MAC over the head. Without it, cutting off the end of the log and restoring the matching older head would leave a chain
/// that verifies. Only an admin with the keyring can compute it, and nothing is written on a head without it.
pub(crate) fn mac(key: &DigestKey, head: &Position) -> [u8; 32] {
    // The input is shorter than that of any entry, so the MAC cannot be passed off as a chain value.
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(head.epoch.as_bytes()).update(&head.revision.0.to_be_bytes()).update(&head.chain);
    *hasher.finalize().as_bytes()
}

/// Adds the MAC to the head of a database that was created before 2026-11-24, in the transaction that adds the column. At no
/// other time is a head without a MAC accepted. The chain value of the newest entry proves that the keyring is the right one.
pub(crate) async fn sign_unsigned_head(tx: &DatabaseTransaction, key: &DigestKey) -> Result<(), DbErr> {
    let Some(row) = find_head(tx).await? else { return Ok(()) };
    let newest = change::Entity::find().order_by_desc(change::Column::Revision).limit(2).all(tx).await?;
    let previous = newest.get(1).map_or(Ok([0; 32]), |entry| to_chain(&entry.chain)).map_err(cannot_migrate)?;
    let head = to_position(&row).map_err(cannot_migrate)?;
    let last = newest.first().filter(|entry| entry.revision == row.revision);
    if last.is_none_or(|entry| chain_value(entry, key, &previous) != head.chain) {
        return Err(cannot_migrate("the end of the change log does not fit this keyring"));
    }
    to_row(&head, Some(mac(key, &head))).update(tx).await?;
    Ok(())
}

fn cannot_migrate(problem: impl std::fmt::Display) -> DbErr {
    DbErr::Custom(format!("cannot bring the database up to date: {problem}"))
}

fn to_position(row: &counter::Model) -> Result<Position, Error> {
    Ok(Position { epoch: row.epoch.into(), revision: Revision(row.revision), chain: to_chain(&row.chain)? })
}

fn to_row(head: &Position, mac: Option<[u8; 32]>) -> counter::ActiveModel {
    counter::ActiveModel {
        id: Set(1),
        revision: Set(head.revision.0),
        chain: Set(head.chain.to_vec()),
        epoch: Set(head.epoch.into()),
        mac: Set(mac.map(|mac| mac.to_vec())),
    }
}
