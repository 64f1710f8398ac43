use std::collections::HashMap;

use keyward_domain::{Error, KeyEntry, Position, Timestamp, TokenEntry, WithheldToken};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::connection::Transaction;
use crate::convert::{to_entry, to_token, to_withheld};
use crate::entity::{history_fork, key, key_token, withheld_token};
use crate::error::from_driver;
use crate::log::head::read_head;
use crate::log::history::is_in_log;
use crate::store::Store;

/// Keys per query.
const PAGE: u64 = 2_000;

/// What an admin publishes to validators besides the keys.
#[derive(Clone, Debug)]
pub struct History {
    /// The head of the log.
    pub head: Position,
    /// Tokens that are denied because a lost history denied them.
    pub withheld: Vec<WithheldToken>,
    /// When the current epoch began; `None` if the history never forked.
    pub forked: Option<Timestamp>,
    /// `true` if an owner has accepted the current epoch, or the history never forked.
    pub accepted: bool,
}

impl Store {
    /// Passes every key to `sink`, as of the head of the log, which it returns.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_image(&self, sink: impl FnMut(KeyEntry) + Send) -> Result<Position, Error> {
        Ok(self.load_history(sink).await?.head)
    }

    /// Passes every key to `sink`, as of the head of the log. Returns the head and what the log records about forks.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_history(&self, sink: impl FnMut(KeyEntry) + Send) -> Result<History, Error> {
        let tx = self.reader().begin_snapshot().await.map_err(from_driver)?;
        load(tx, sink).await
    }

    /// Loads what [`Store::load_history`] loads, if the log contains `position`; returns `None` if the log lacks it.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_history_with(
        &self,
        position: &Position,
        sink: impl FnMut(KeyEntry) + Send,
    ) -> Result<Option<History>, Error> {
        let tx = self.reader().begin_snapshot().await.map_err(from_driver)?;
        if !is_in_log(&tx, position).await.map_err(from_driver)? {
            return Ok(None);
        }
        load(tx, sink).await.map(Some)
    }
}

/// Loads everything in a transaction that sees one state of the database throughout.
async fn load(tx: Transaction, mut sink: impl FnMut(KeyEntry) + Send) -> Result<History, Error> {
    let head = read_head(&tx).await?;
    let mut after = None;
    loop {
        let keys = page_of_keys(&tx, after).await.map_err(from_driver)?;
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { break };
        let tokens = tokens_between(&tx, first.uid, last.uid).await.map_err(from_driver)?;
        after = Some(last.uid);
        let mut tokens = by_key(&tokens)?;
        for row in keys {
            let own = tokens.remove(&row.uid).unwrap_or_default();
            sink(to_entry(row, own)?);
        }
    }
    let withheld = withheld_token::Entity::find().all(&tx).await.map_err(from_driver)?;
    let withheld = withheld.iter().map(to_withheld).collect::<Result<_, _>>()?;
    let fork = history_fork::Entity::find_by_id(Uuid::from(head.epoch)).one(&tx).await.map_err(from_driver)?;
    tx.commit().await.map_err(from_driver)?;
    let accepted = fork.as_ref().is_none_or(|fork| fork.accept_time.is_some());
    Ok(History { head, withheld, forked: fork.map(|fork| Timestamp::from_micros(fork.time)), accepted })
}

/// A page of keys, ordered by uid, after the key `after`.
pub(crate) async fn page_of_keys(tx: &Transaction, after: Option<Uuid>) -> Result<Vec<key::Model>, DbErr> {
    let after = Condition::all().add_option(after.map(|after| key::Column::Uid.gt(after)));
    key::Entity::find().filter(after).order_by_asc(key::Column::Uid).limit(PAGE).all(tx).await
}

/// The tokens of the keys whose uids lie between `first` and `last`, inclusive, ordered by key and generation.
pub(crate) async fn tokens_between(tx: &Transaction, first: Uuid, last: Uuid) -> Result<Vec<key_token::Model>, DbErr> {
    key_token::Entity::find()
        .filter(key_token::Column::KeyUid.between(first, last))
        .order_by_asc(key_token::Column::KeyUid)
        .order_by_asc(key_token::Column::Generation)
        .all(tx)
        .await
}

fn by_key(rows: &[key_token::Model]) -> Result<HashMap<Uuid, Vec<TokenEntry>>, Error> {
    let mut tokens: HashMap<Uuid, Vec<TokenEntry>> = HashMap::new();
    for row in rows {
        tokens.entry(row.key_uid).or_default().push(to_token(row)?);
    }
    Ok(tokens)
}
