//! What to do when the database is not the one that it was: a backup was restored, or a server took over without the last
//! changes. Its history gets an epoch of its own, and what the lost one refused stays refused until an owner accepts it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keyward_domain::{Change, Epoch, Error, KeyName, MemberId, Position, Timestamp, Uid, WithheldToken};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::{from_withheld, to_entry, to_key, to_token, to_withheld};
use crate::entity::{change, history_fork, key, key_token, withheld_token};
use crate::error::{TxError, corrupt, from_driver};
use crate::sql::head::read_head;
use crate::sql::hints::announce;
use crate::write::{Entry, begin, lock_head, move_counter, now, retry};

/// Tokens looked at, and put in one entry of the log, at once.
const BATCH: usize = 500;

/// How a place that somebody knows stands to the database's history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PositionStatus {
    /// It is in the log.
    InLog,
    /// It is not: it is of a history that is known to be lost.
    KnownLost,
    /// It is not, and nobody has noticed yet: the database has lost changes.
    NewlyLost,
}

/// What came of mending.
#[derive(Clone, Copy, Debug)]
pub struct HistoryRepair {
    /// The end of the log now.
    pub head: Position,
    /// Whether this call gave the history a new epoch.
    pub new_epoch: bool,
    /// Whether the log lacks the place of whoever called.
    pub own_lost: bool,
    /// How many tokens this call has found that a former history refused and this one does not.
    pub withheld: usize,
}

impl Store {
    /// How a place that somebody knows stands to the log, with the log's end.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn position_status(&self, place: &Position) -> Result<(PositionStatus, Position), Error> {
        let reader = self.reader();
        let head = read_head(&reader).await?;
        Ok((bearing(&reader, &head, place).await.map_err(|e| from_driver(&e))?, head))
    }

    /// Gives the history a new epoch if it lacks one of the places that are `seen`, and nobody has done so before; and has
    /// it refuse what `own`'s history refused, if it lacks `own`: the place up to which `refused` tells of tokens. They are
    /// told beforehand, for the lock is held meanwhile.
    ///
    /// All in one transaction under the log's lock, in which every place is looked for again: of several that try, one
    /// mints the epoch, and the others add what they know.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` when the log's end was made by somebody else.
    pub async fn repair_history(
        &self,
        seen: &[Position],
        own: &Position,
        refused: &[WithheldToken],
    ) -> Result<HistoryRepair, Error> {
        let mended = retry!(self.repair_history_once(seen, own, refused))?;
        self.seen().looked_for(&mended.head);
        Ok(mended)
    }

    async fn repair_history_once(
        &self,
        seen: &[Position],
        own: &Position,
        refused: &[WithheldToken],
    ) -> Result<HistoryRepair, TxError> {
        let tx = begin(&self.writer()).await?;
        let head = lock_head(&tx, &self.chain_key).await?;
        let own_lost = bearing(&tx, &head, own).await? != PositionStatus::InLog;
        let mut pen = Pen { store: self, tx: &tx, head, time: now(&tx).await? };
        for place in seen.iter().chain([own]) {
            // Once there is a new epoch, the one before is known to have forked.
            if bearing(&tx, &pen.head, place).await? == PositionStatus::NewlyLost {
                pen.mint(place).await?;
            }
        }
        let withheld =
            if own_lost && !is_accepted(&tx, pen.head.epoch).await? { pen.withhold(refused).await? } else { 0 };
        let (end, minted) = (pen.head, pen.head.epoch != head.epoch);
        if end != head {
            announce(&tx).await?;
            move_counter(&tx, &self.chain_key, &end).await?;
            tx.commit().await?;
        }
        Ok(HistoryRepair { head: end, new_epoch: minted, own_lost, withheld })
    }

    /// Refuses a history that lacks what this process knows to be in the log: what is done in it would be waited for in
    /// the other one, and so in vain.
    pub(crate) async fn check_history(&self, db: &impl ConnectionTrait, head: &Position) -> Result<(), TxError> {
        // Both: what was seen since may be of another history than what was told.
        for place in self.told().into_iter().chain(self.newest_seen()) {
            // Mostly it is the end itself, which costs no question.
            let is_there = place == *head || (place.epoch == head.epoch && is_in_log(db, &place).await?);
            if !is_there {
                return Err(Error::history_changed().into());
            }
        }
        Ok(())
    }

    /// The same for whoever only reads.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: it is such a history.
    pub async fn checked_head(&self) -> Result<Position, Error> {
        let reader = self.reader();
        let head = read_head(&reader).await?;
        match self.check_history(&reader, &head).await {
            Ok(()) => Ok(head),
            Err(TxError::Answer(error)) => Err(error),
            Err(TxError::Conflict(error)) => Err(from_driver(&error)),
        }
    }
}

/// Whether an owner has accepted the epoch.
async fn is_accepted(tx: &Transaction, epoch: Epoch) -> Result<bool, DbErr> {
    let fork = history_fork::Entity::find_by_id(Uuid::from(epoch)).one(tx).await?;
    Ok(fork.is_none_or(|fork| fork.accept_time.is_some()))
}

async fn is_in_log(db: &impl ConnectionTrait, place: &Position) -> Result<bool, DbErr> {
    let row = change::Entity::find_by_id(place.revision.0).one(db).await?;
    Ok(row.is_some_and(|row| row.chain == place.chain))
}

async fn bearing(db: &impl ConnectionTrait, head: &Position, place: &Position) -> Result<PositionStatus, DbErr> {
    let current = place.epoch == head.epoch;
    let known = current || {
        let of = |column: history_fork::Column| column.eq(Uuid::from(place.epoch));
        let any = Condition::any()
            .add(of(history_fork::Column::Epoch))
            .add(of(history_fork::Column::Former))
            .add(of(history_fork::Column::Lost));
        history_fork::Entity::find().filter(any).one(db).await?.is_some()
    };
    Ok(match (known, is_in_log(db, place).await?) {
        (false, _) => PositionStatus::NewlyLost,
        (true, true) => PositionStatus::InLog,
        (true, false) if current => PositionStatus::NewlyLost,
        (true, false) => PositionStatus::KnownLost,
    })
}

/// Writes the platform's own entries, one behind the other, in one transaction.
struct Pen<'a> {
    store: &'a Store,
    tx: &'a Transaction,
    head: Position,
    time: Timestamp,
}

impl Pen<'_> {
    async fn write(&mut self, change: &Change) -> Result<(), TxError> {
        let (actor, resource) = (MemberId::platform(), change.resource());
        let text = serde_json::to_string(change).map_err(corrupt)?;
        let revision = self.head.revision.next();
        let entry =
            Entry { revision, time: self.time, actor: &actor, resource: &resource, project: None, change: &text };
        let chain = entry.chain(&self.store.chain_key, &self.head.chain);
        entry.insert(self.tx, chain).await?;
        self.head = Position { revision, chain, ..self.head };
        Ok(())
    }

    async fn mint(&mut self, lost: &Position) -> Result<(), TxError> {
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
        self.write(&Change::HistoryForked { former, lost: lost.epoch, known: lost.revision, epoch }).await
    }

    /// Withholds those of `refused` that the rows let pass for longer.
    async fn withhold(&mut self, refused: &[WithheldToken]) -> Result<usize, TxError> {
        let mut count = 0;
        for batch in refused.chunks(BATCH) {
            let (keys, tokens) = laxer(self.tx, batch).await?;
            if tokens.is_empty() {
                continue;
            }
            count += tokens.len();
            let stricter = OnConflict::column(withheld_token::Column::Digest)
                .update_columns([withheld_token::Column::KeyUid, withheld_token::Column::RefusedFrom])
                .to_owned();
            let rows = tokens.iter().map(from_withheld);
            withheld_token::Entity::insert_many(rows).on_conflict(stricter).exec_without_returning(self.tx).await?;
            let epoch = self.head.epoch;
            self.write(&Change::TokensWithheld { epoch, keys: keys.into_iter().collect(), tokens }).await?;
        }
        Ok(count)
    }
}

/// Those of the tokens that the database would let pass for longer, and whose they are.
async fn laxer(
    tx: &Transaction,
    refused: &[WithheldToken],
) -> Result<(BTreeSet<KeyName>, Vec<WithheldToken>), TxError> {
    let digests = || refused.iter().map(|token| token.digest.as_bytes().to_vec());
    let uids: BTreeSet<Uuid> = refused.iter().map(|token| token.key.into()).collect();
    let rows = key::Entity::find().filter(key::Column::Uid.is_in(uids)).all(tx).await?;
    let keys: BTreeMap<Uid, key::Model> = rows.into_iter().map(|row| (row.uid.into(), row)).collect();
    let tokens = key_token::Entity::find().filter(key_token::Column::Digest.is_in(digests())).all(tx).await?;
    let mut ends = HashMap::new();
    for row in &tokens {
        let Some(key) = keys.get(&row.key_uid.into()) else { continue };
        let entry = to_entry(key.clone(), vec![to_token(row)?])?;
        ends.insert(entry.tokens[0].digest, entry.ends().next().map(|end| end.from));
    }
    let held = withheld_token::Entity::find().filter(withheld_token::Column::Digest.is_in(digests())).all(tx).await?;
    for row in &held {
        let held = to_withheld(row)?;
        ends.entry(held.digest).and_modify(|end| *end = Some(end.map_or(held.from, |end| end.min(held.from))));
    }
    let passes_longer =
        |token: &&WithheldToken| ends.get(&token.digest).is_some_and(|end| end.is_none_or(|end| token.from < end));
    let tokens: Vec<_> = refused.iter().filter(passes_longer).cloned().collect();
    let names = tokens.iter().filter_map(|token| keys.get(&token.key).cloned()).map(|row| to_key(row).map(|k| k.name));
    Ok((names.collect::<Result<_, _>>()?, tokens))
}
