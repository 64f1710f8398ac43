use keyward_domain::{Change, Error, Key, KeyName, KeyRecord, KeyState, Revision, TokenEntry};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::connect::Store;
use crate::convert::{from_key, to_token};
use crate::entity::key_token;
use crate::error::TxError;
use crate::sql::get::lock_key;
use crate::write::{Call, retry};

/// What a deactivation left behind.
#[derive(Clone, Debug)]
pub struct DeactivatedKey {
    /// The key, deactivated.
    pub key: Key,
    /// The revision that deactivated it, which a retry must wait for just the same.
    pub revision: Revision,
}

impl Store {
    /// Deactivates a key. A key that is deactivated already stays as it is, whatever the etag.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn deactivate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<DeactivatedKey, Error> {
        retry!(self.deactivate_key_once(call, name, etag))
    }

    async fn deactivate_key_once(&self, call: &Call, name: &KeyName, etag: &str) -> Result<DeactivatedKey, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if before.state == KeyState::Deactivated {
            return Ok(DeactivatedKey { revision: before.revision, key: before });
        }
        let place = write.take_place().await?;
        let key = before.deactivated(write.actor(), etag, place.time, place.revision)?;
        from_key(&key)?.update(&write.tx).await?;
        let tokens = tokens_of(&write.tx, &key).await?;
        let deactivated = DeactivatedKey { key: key.clone(), revision: place.revision };
        let after = Box::new(KeyRecord { key, tokens });
        write.commit(place, &Change::KeyDeactivated { before: Box::new(before), after }, None).await?;
        Ok(deactivated)
    }
}

async fn tokens_of(tx: &impl ConnectionTrait, key: &Key) -> Result<Vec<TokenEntry>, TxError> {
    let rows = key_token::Entity::find()
        .filter(key_token::Column::KeyUid.eq(uuid::Uuid::from(key.uid)))
        .order_by_asc(key_token::Column::Generation)
        .all(tx)
        .await?;
    Ok(rows.iter().map(to_token).collect::<Result<_, _>>()?)
}
