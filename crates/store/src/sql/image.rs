use std::collections::HashMap;

use keyward_domain::{Error, KeyEntry, TokenEntry};
use sea_orm::{
    AccessMode, ColumnTrait, Condition, DbErr, EntityTrait, IsolationLevel, QueryFilter, QueryOrder, QuerySelect,
    TransactionOptions,
};
use uuid::Uuid;

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::{to_entry, to_token};
use crate::entity::{key, key_token};
use crate::error::unavailable;
use crate::sql::head::{Head, read_head};

/// Keys read at once.
const PAGE: u64 = 2_000;

impl Store {
    /// Hands every key to `sink`, all as of the head that is returned.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `INTERNAL`.
    pub async fn load_image(&self, mut sink: impl FnMut(KeyEntry) + Send) -> Result<Head, Error> {
        let tx = self.snapshot().await.map_err(|e| unavailable(&e))?;
        let head = read_head(&tx).await?;
        let mut after = None;
        loop {
            let keys = page_of_keys(&tx, after).await.map_err(|e| unavailable(&e))?;
            let (Some(first), Some(last)) = (keys.first(), keys.last()) else { break };
            let tokens = tokens_between(&tx, first.uid, last.uid).await.map_err(|e| unavailable(&e))?;
            after = Some(last.uid);
            let mut tokens = by_key(&tokens)?;
            for row in keys {
                let own = tokens.remove(&row.uid).unwrap_or_default();
                sink(to_entry(row, own)?);
            }
        }
        tx.commit().await.map_err(|e| unavailable(&e))?;
        Ok(head)
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
