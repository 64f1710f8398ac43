//! Repairs the history of a database that has lost changes: a backup was restored, or a server took over without the newest
//! commits. The history continues in a new epoch, and tokens that the lost history denied stay denied until an owner accepts
//! the epoch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keyward_domain::{Change, Epoch, Error, KeyName, MemberId, Position, Timestamp, Uid, WithheldToken};
use keyward_protocol::log::withholds_reported;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::clock::now;
use crate::connection::Transaction;
use crate::convert::{from_withheld, to_entry, to_key, to_token, to_withheld};
use crate::entity::{history_fork, key, key_token, withheld_token};
use crate::error::TxError;
use crate::log::chain::{Author, append};
use crate::log::head::{lock_head, move_head};
use crate::log::history::{check_head_in_log, is_in_log, relation};
use crate::log::notifications::notify;
use crate::retry::retry;
use crate::store::Store;

/// Tokens that are compared, and recorded in one log entry, at a time.
const BATCH: usize = 500;

/// The result of [`Store::repair_history`].
#[derive(Clone, Copy, Debug)]
pub struct HistoryRepair {
    /// The head of the log after the repair.
    pub head: Position,
    /// `true` if this call began a new epoch.
    pub new_epoch: bool,
    /// `true` if the log lacks the caller's own position.
    pub own_lost: bool,
    /// The number of tokens that this call withheld.
    pub withheld: usize,
}

impl Store {
    /// Begins a new epoch if the log lacks a position in `seen` or `own` and no recorded fork explains that. If the log lacks
    /// `own`, also withholds the tokens in `refused` that the database would accept for longer.
    ///
    /// `own` is the position up to which the caller knows the lost history, and `refused` are the tokens that this history
    /// denied. The caller computes `refused`, so that the log is not locked while a table of all tokens is scanned.
    ///
    /// One transaction compares all positions again under the lock on the head of the log. If several admins call this, one of
    /// them begins the epoch and the others add the tokens that they know.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` if the head of the log was changed outside Keyward.
    pub async fn repair_history(
        &self,
        seen: &[Position],
        own: &Position,
        refused: &[WithheldToken],
    ) -> Result<HistoryRepair, Error> {
        // A change that is committed and not published is compared too: another admin's suspicion may lead here first.
        let unpublished = self.seen().unpublished();
        let (repair, contained) = retry(|| self.repair_history_once(seen, own, refused, &unpublished)).await?;
        self.seen().discard_lost(&unpublished, &contained, repair.head.epoch);
        Ok(repair)
    }

    /// Withholds the tokens in `reported`, which a validator denies because an earlier epoch denied them, as far as the database
    /// would accept them for longer. Returns the number of tokens that this call withheld, and the head of the log. Withholds
    /// nothing if the log has another epoch than `epoch`, or an owner has accepted the epoch.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, also if the log lacks a position that this process has seen; `INTERNAL` if the head of the log was
    /// changed outside Keyward.
    pub async fn withhold_reported(
        &self,
        epoch: Epoch,
        reported: &[WithheldToken],
    ) -> Result<(usize, Position), Error> {
        retry(|| self.withhold_reported_once(epoch, reported)).await
    }

    async fn withhold_reported_once(
        &self,
        epoch: Epoch,
        reported: &[WithheldToken],
    ) -> Result<(usize, Position), TxError> {
        let tx = self.writer().begin_write().await?;
        let before = lock_head(&tx, &self.chain_key).await?;
        self.check_history(&tx, &before).await?;
        if !withholds_reported(before.epoch, epoch, is_accepted(&tx, before.epoch).await?) {
            return Ok((0, before));
        }
        let mut log = PlatformLog { store: self, tx: &tx, head: before, time: now(&tx).await? };
        let withheld = log.withhold(reported).await?;
        let head = log.head;
        if head != before {
            notify(&tx).await?;
            move_head(&tx, &self.chain_key, &head).await?;
            tx.commit().await?;
        }
        Ok((withheld, head))
    }

    /// Begins a new epoch at the end of a log that was restored from a backup. Changes that followed the backup are lost, and a
    /// process that has seen one of them finds that this log records why. Returns the new head.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` if the head of the log was changed outside Keyward.
    pub async fn begin_epoch_after_restore(&self) -> Result<Position, Error> {
        retry(|| self.begin_epoch_once()).await
    }

    async fn begin_epoch_once(&self) -> Result<Position, TxError> {
        let tx = self.writer().begin_write().await?;
        let before = lock_head(&tx, &self.chain_key).await?;
        check_head_in_log(&tx, &before).await?;
        let mut log = PlatformLog { store: self, tx: &tx, head: before, time: now(&tx).await? };
        // How far the lost history went is not known: at least to the end of the backup.
        log.begin_epoch(&before).await?;
        let head = log.head;
        move_head(&tx, &self.chain_key, &head).await?;
        tx.commit().await?;
        Ok(head)
    }

    async fn repair_history_once(
        &self,
        seen: &[Position],
        own: &Position,
        refused: &[WithheldToken],
        unpublished: &[Position],
    ) -> Result<(HistoryRepair, Vec<Position>), TxError> {
        let tx = self.writer().begin_write().await?;
        let before = lock_head(&tx, &self.chain_key).await?;
        check_head_in_log(&tx, &before).await?;
        let mut contained = Vec::new();
        for position in unpublished {
            if is_in_log(&tx, position).await? {
                contained.push(*position);
            }
        }
        let own_relation = relation(&tx, &before, own).await?;
        let mut log = PlatformLog { store: self, tx: &tx, head: before, time: now(&tx).await? };
        for position in seen.iter().chain([own]) {
            // Compared with the current head: a new epoch records a fork, which explains other positions of the former one.
            if relation(&tx, &log.head, position).await?.begins_epoch() {
                log.begin_epoch(position).await?;
            }
        }
        let withholds = own_relation.withholds(is_accepted(&tx, log.head.epoch).await?);
        let withheld = if withholds { log.withhold(refused).await? } else { 0 };
        let head = log.head;
        if head != before {
            notify(&tx).await?;
            move_head(&tx, &self.chain_key, &head).await?;
            tx.commit().await?;
        }
        let (new_epoch, own_lost) = (head.epoch != before.epoch, own_relation.is_lost());
        Ok((HistoryRepair { head, new_epoch, own_lost, withheld }, contained))
    }
}

/// Returns `true` if an owner has accepted the epoch, or it is the first of the database.
async fn is_accepted(tx: &Transaction, epoch: Epoch) -> Result<bool, DbErr> {
    let fork = history_fork::Entity::find_by_id(Uuid::from(epoch)).one(tx).await?;
    Ok(fork.is_none_or(|fork| fork.accept_time.is_some()))
}

/// Appends entries in the name of `members/_platform`, several in one transaction.
struct PlatformLog<'a> {
    store: &'a Store,
    tx: &'a Transaction,
    /// The end of what has been appended. The head row is moved there at the end.
    head: Position,
    time: Timestamp,
}

impl PlatformLog<'_> {
    async fn append(&mut self, change: &Change) -> Result<(), TxError> {
        let author = Author { member: &MemberId::platform(), credential: None };
        self.head = append(self.tx, &self.store.chain_key, &self.head, self.time, author, change).await?;
        Ok(())
    }

    /// Begins a new epoch, because the log lacks the position `lost`.
    async fn begin_epoch(&mut self, lost: &Position) -> Result<(), TxError> {
        let (former, epoch) = (self.head.epoch, Epoch::generate());
        let row = history_fork::ActiveModel {
            epoch: Set(epoch.into()),
            former: Set(former.into()),
            lost: Set(lost.epoch.into()),
            time: Set(self.time.as_micros()),
            accept_time: Set(None),
        };
        row.insert(self.tx).await?;
        self.head.epoch = epoch;
        self.append(&Change::HistoryForked { former, lost: lost.epoch, known: lost.revision, epoch }).await
    }

    /// Withholds the tokens in `refused` that the database would accept for longer. Returns their number.
    async fn withhold(&mut self, refused: &[WithheldToken]) -> Result<usize, TxError> {
        let mut count = 0;
        for batch in refused.chunks(BATCH) {
            let (keys, tokens) = accepted_longer(self.tx, batch).await?;
            if tokens.is_empty() {
                continue;
            }
            count += tokens.len();
            let replace = OnConflict::column(withheld_token::Column::Digest)
                .update_columns([withheld_token::Column::KeyUid, withheld_token::Column::RefusedFrom])
                .to_owned();
            let rows = tokens.iter().map(from_withheld);
            withheld_token::Entity::insert_many(rows).on_conflict(replace).exec_without_returning(self.tx).await?;
            let epoch = self.head.epoch;
            self.append(&Change::TokensWithheld { epoch, keys: keys.into_iter().collect(), tokens }).await?;
        }
        Ok(count)
    }
}

/// The tokens in `refused` that the database would accept beyond the instant from which they are denied, and the names of
/// their keys. Tokens that the database does not have are left out: they are denied as unknown.
async fn accepted_longer(
    tx: &Transaction,
    refused: &[WithheldToken],
) -> Result<(BTreeSet<KeyName>, Vec<WithheldToken>), TxError> {
    let digests = || refused.iter().map(|token| token.digest.as_bytes().to_vec());
    let uids: BTreeSet<Uuid> = refused.iter().map(|token| token.key.into()).collect();
    let rows = key::Entity::find().filter(key::Column::Uid.is_in(uids)).all(tx).await?;
    let keys: BTreeMap<Uid, key::Model> = rows.into_iter().map(|row| (row.uid.into(), row)).collect();
    let tokens = key_token::Entity::find().filter(key_token::Column::Digest.is_in(digests())).all(tx).await?;
    // When the database ends each token that it has; `None` if it does not.
    let mut ends = HashMap::new();
    for row in &tokens {
        let Some(key) = keys.get(&row.key_uid.into()) else { continue };
        let entry = to_entry(key.clone(), vec![to_token(row)?])?;
        ends.insert(entry.tokens[0].digest, entry.ends().next().map(|end| end.from));
    }
    let withheld =
        withheld_token::Entity::find().filter(withheld_token::Column::Digest.is_in(digests())).all(tx).await?;
    for row in &withheld {
        let withheld = to_withheld(row)?;
        let earlier = |end: Option<Timestamp>| end.map_or(withheld.from, |end| end.min(withheld.from));
        ends.entry(withheld.digest).and_modify(|end| *end = Some(earlier(*end)));
    }
    let is_accepted_longer =
        |token: &&WithheldToken| ends.get(&token.digest).is_some_and(|end| end.is_none_or(|end| token.from < end));
    let tokens: Vec<_> = refused.iter().filter(is_accepted_longer).cloned().collect();
    let names = tokens.iter().filter_map(|token| keys.get(&token.key).cloned()).map(|row| to_key(row).map(|k| k.name));
    Ok((names.collect::<Result<_, _>>()?, tokens))
}
