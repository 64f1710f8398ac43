use keyward_domain::{Change, Error, Key, KeyName, KeyRecord, MemberId, Revision, TokenRecord};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use uuid::Uuid;

use crate::convert::{from_key, to_token_record};
use crate::entity::key_token;
use crate::error::TxError;
use crate::sql::get::lock_key;
use crate::store::Store;
use crate::write::{Call, NextEntry, Write};

/// The result of a change of one key.
#[derive(Clone, Debug)]
pub struct ChangedKey {
    /// The key after the change.
    pub key: Key,
    /// The revision of the key's last change. A retry that changes nothing must wait for it as well.
    pub revision: Revision,
}

/// One kind of change of a key.
pub(crate) struct KeyChange<'a> {
    /// Returns `true` if the key has the requested state already. Nothing is written then, and the etag is not compared.
    pub(crate) is_done: &'a (dyn Fn(&Key) -> bool + Sync),
    /// Returns the key after the change.
    pub(crate) apply: &'a (dyn Fn(&Key, &NextEntry) -> Result<Key, Error> + Sync),
    /// Makes the log entry of the images before and after.
    pub(crate) log: fn(Box<Key>, Box<KeyRecord>) -> Change,
}

impl Store {
    /// Changes one key for a member's call. Its row is locked before the head of the log.
    pub(crate) async fn change_key_once(
        &self,
        call: &Call,
        name: &KeyName,
        change: &KeyChange<'_>,
    ) -> Result<ChangedKey, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        change_locked_key(write, before, change).await
    }

    /// Changes one key as a member scheduled it. Returns `None` if the key has the requested state already.
    pub(crate) async fn change_scheduled_key_once(
        &self,
        scheduler: &MemberId,
        name: &KeyName,
        change: &KeyChange<'_>,
    ) -> Result<Option<ChangedKey>, TxError> {
        let write = self.begin_scheduled(scheduler).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if (change.is_done)(&before) {
            return Ok(None);
        }
        apply(write, before, change).await.map(Some)
    }
}

/// Changes a key whose row is locked, for a member's call.
pub(crate) async fn change_locked_key(
    write: Write<'_>,
    before: Key,
    change: &KeyChange<'_>,
) -> Result<ChangedKey, TxError> {
    if (change.is_done)(&before) {
        write.check_history().await?;
        return Ok(ChangedKey { revision: before.revision, key: before });
    }
    apply(write, before, change).await
}

async fn apply(write: Write<'_>, before: Key, change: &KeyChange<'_>) -> Result<ChangedKey, TxError> {
    let next = write.next_entry().await?;
    let key = (change.apply)(&before, &next)?;
    from_key(&key)?.update(&write.tx).await?;
    let tokens = tokens_of(&write.tx, &key).await?;
    let changed = ChangedKey { key: key.clone(), revision: next.revision };
    let entry = (change.log)(Box::new(before), Box::new(KeyRecord { key, tokens }));
    write.commit(next, &entry, None).await?;
    Ok(changed)
}

/// The tokens of a key, oldest first.
pub(crate) async fn tokens_of(db: &impl ConnectionTrait, key: &Key) -> Result<Vec<TokenRecord>, TxError> {
    let rows = key_token::Entity::find()
        .filter(key_token::Column::KeyUid.eq(Uuid::from(key.uid)))
        .order_by_asc(key_token::Column::Generation)
        .all(db)
        .await?;
    Ok(rows.iter().map(to_token_record).collect::<Result<_, _>>()?)
}
