use keyward_domain::{Change, Error, Key, KeyName, KeyRecord, Revision, TokenRecord};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::connect::Store;
use crate::convert::{from_key, to_token_record};
use crate::entity::key_token;
use crate::error::TxError;
use crate::sql::get::lock_key;
use crate::write::{Call, Place, Write};

/// What a change of one key left behind.
#[derive(Clone, Debug)]
pub struct ChangedKey {
    /// The key as it is now.
    pub key: Key,
    /// The revision of its last change, which a retry must wait for just the same.
    pub revision: Revision,
}

/// One way to change a key.
pub(crate) struct Alteration<'a> {
    /// Whether the key is as it should be already: then nothing is written, whatever the etag.
    pub(crate) is_done: &'a (dyn Fn(&Key) -> bool + Sync),
    /// The key afterwards.
    pub(crate) apply: &'a (dyn Fn(&Key, &Place) -> Result<Key, Error> + Sync),
    /// The log's entry.
    pub(crate) log: fn(Box<Key>, Box<KeyRecord>) -> Change,
}

impl Store {
    /// Changes one key, whose row is locked before the counter.
    pub(crate) async fn change_key_once(
        &self,
        call: &Call,
        name: &KeyName,
        alteration: &Alteration<'_>,
    ) -> Result<ChangedKey, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if (alteration.is_done)(&before) {
            write.check_history().await?;
            return Ok(ChangedKey { revision: before.revision, key: before });
        }
        alter(write, before, alteration).await
    }

    /// The same without asking whether the actor may: that was asked before. `None`: it is done already.
    pub(crate) async fn change_key_unasked_once(
        &self,
        call: &Call,
        name: &KeyName,
        alteration: &Alteration<'_>,
    ) -> Result<Option<ChangedKey>, TxError> {
        let write = self.begin_unasked(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if (alteration.is_done)(&before) {
            return Ok(None);
        }
        alter(write, before, alteration).await.map(Some)
    }
}

async fn alter(write: Write<'_>, before: Key, alteration: &Alteration<'_>) -> Result<ChangedKey, TxError> {
    let place = write.take_place().await?;
    let key = (alteration.apply)(&before, &place)?;
    from_key(&key)?.update(&write.tx).await?;
    let tokens = tokens_of(&write.tx, &key).await?;
    let changed = ChangedKey { key: key.clone(), revision: place.revision };
    let change = (alteration.log)(Box::new(before), Box::new(KeyRecord { key, tokens }));
    write.commit(place, &change, None).await?;
    Ok(changed)
}

pub(crate) async fn tokens_of(tx: &impl ConnectionTrait, key: &Key) -> Result<Vec<TokenRecord>, TxError> {
    let rows = key_token::Entity::find()
        .filter(key_token::Column::KeyUid.eq(uuid::Uuid::from(key.uid)))
        .order_by_asc(key_token::Column::Generation)
        .all(tx)
        .await?;
    Ok(rows.iter().map(to_token_record).collect::<Result<_, _>>()?)
}
