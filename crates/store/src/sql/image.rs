use std::collections::HashMap;

use keyward_domain::{Error, KeyEntry, Position, Timestamp, TokenEntry, WithheldToken};
use sea_orm::{
    AccessMode, ColumnTrait, Condition, DbErr, EntityTrait, IsolationLevel, QueryFilter, QueryOrder, QuerySelect,
    TransactionOptions,
};
use uuid::Uuid;

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::{to_entry, to_token, to_withheld};
use crate::entity::{history_fork, key, key_token, withheld_token};
use crate::error::from_driver;
use crate::sql::head::read_head;

/// Keys read at once.
const PAGE: u64 = 2_000;

/// What validators are fed from, besides the keys.
#[derive(Clone, Debug)]
pub struct History {
    /// Where the log ends.
    pub head: Position,
    /// Tokens that are refused for what a former history said of them.
    pub withheld: Vec<WithheldToken>,
    /// When the epoch began in which the log is now; `None`: it never forked.
    pub forked: Option<Timestamp>,
    /// Whether an owner has accepted the epoch, or it never forked.
    pub accepted: bool,
}

impl Store {
    /// Hands every key to `sink`, all as of the head that is returned.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_image(&self, sink: impl FnMut(KeyEntry) + Send) -> Result<Position, Error> {
        Ok(self.load_history(sink).await?.head)
    }

    /// The same, with how the history stands to former ones.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_history(&self, mut sink: impl FnMut(KeyEntry) + Send) -> Result<History, Error> {
        let tx = self.snapshot().await.map_err(|e| from_driver(&e))?;
        let head = read_head(&tx).await?;
        let mut after = None;
        loop {
            let keys = page_of_keys(&tx, after).await.map_err(|e| from_driver(&e))?;
            let (Some(first), Some(last)) = (keys.first(), keys.last()) else { break };
            let tokens = tokens_between(&tx, first.uid, last.uid).await.map_err(|e| from_driver(&e))?;
            after = Some(last.uid);
            let mut tokens = by_key(&tokens)?;
            for row in keys {
                let own = tokens.remove(&row.uid).unwrap_or_default();
                sink(to_entry(row, own)?);
            }
        }
        let withheld = withheld_token::Entity::find().all(&tx).await.map_err(|e| from_driver(&e))?;
        let withheld = withheld.iter().map(to_withheld).collect::<Result<_, _>>()?;
        let fork =
            history_fork::Entity::find_by_id(Uuid::from(head.epoch)).one(&tx).await.map_err(|e| from_driver(&e))?;
        tx.commit().await.map_err(|e| from_driver(&e))?;
        let accepted = fork.as_ref().is_none_or(|fork| fork.accept_time.is_some());
        Ok(History { head, withheld, forked: fork.map(|fork| Timestamp::from_micros(fork.time)), accepted })
    }

    /// A transaction that sees one state of the database throughout.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, DbErr> {
        let options = if self.is_sqlite() {
            // In WAL mode a reading transaction sees the state of its first read.
            TransactionOptions::default()
        } else {
            TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            }
        };
        self.reader().begin(options).await
    }
}

/// Keys by uid, from the first after `after`.
pub(crate) async fn page_of_keys(tx: &Transaction, after: Option<Uuid>) -> Result<Vec<key::Model>, DbErr> {
    let after = Condition::all().add_option(after.map(|after| key::Column::Uid.gt(after)));
    key::Entity::find().filter(after).order_by_asc(key::Column::Uid).limit(PAGE).all(tx).await
}

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
