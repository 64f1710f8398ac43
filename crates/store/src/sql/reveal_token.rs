use keyward_domain::{Change, Error, Key, KeyName};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::retry::retry;
use crate::secret::SealedSecret;
use crate::sql::get::lock_key;
use crate::store::Store;
use crate::write::Call;

/// The result of [`Store::reveal_token`].
#[derive(Clone, Debug)]
pub struct RevealedToken {
    /// The key.
    pub key: Key,
    /// Its newest token, sealed for the uid of the key.
    pub sealed: SealedSecret,
}

impl Store {
    /// Logs that the newest token of a key is revealed, and returns the token. The log entry is committed first.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `REVEAL_DISABLED`, `STORE_UNAVAILABLE`.
    pub async fn reveal_token(&self, call: &Call, name: &KeyName) -> Result<RevealedToken, Error> {
        retry(|| self.reveal_token_once(call, name)).await
    }

    async fn reveal_token_once(&self, call: &Call, name: &KeyName) -> Result<RevealedToken, TxError> {
        let write = self.begin(call).await?;
        // The lock keeps the token the newest one at the revision of the log entry.
        let key = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        let newest = key_token::Entity::find()
            .filter(key_token::Column::KeyUid.eq(uuid::Uuid::from(key.uid)))
            .order_by_desc(key_token::Column::Generation)
            .one(&write.tx)
            .await?;
        let newest = newest.ok_or_else(|| corrupt(format!("{name} has no token")))?;
        let sealed = SealedSecret::from_columns(newest.sealing_key_id, newest.sealed)?;
        let sealed = sealed.ok_or_else(|| Error::reveal_disabled(name))?;
        let generation = u32::try_from(newest.generation).map_err(corrupt)?;
        let next = write.next_entry().await?;
        write.commit(next, &Change::TokenRevealed { name: name.clone(), generation }, None).await?;
        Ok(RevealedToken { key, sealed })
    }
}
