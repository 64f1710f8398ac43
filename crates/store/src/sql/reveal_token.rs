use keyward_domain::{Change, Error, Key, KeyName};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::connect::Store;
use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::sql::get::lock_key;
use crate::write::{Call, SealedSecret, retry};

/// A key's token as the database holds it.
#[derive(Clone, Debug)]
pub struct RevealedToken {
    /// Whose it is.
    pub key: Key,
    /// The token, sealed for the key's uid.
    pub sealed: SealedSecret,
}

impl Store {
    /// Fetches a key's current token, and writes into the log that it was shown: before it is.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `REVEAL_DISABLED`, `STORE_UNAVAILABLE`.
    pub async fn reveal_token(&self, call: &Call, name: &KeyName) -> Result<RevealedToken, Error> {
        retry!(self.reveal_token_once(call, name))
    }

    async fn reveal_token_once(&self, call: &Call, name: &KeyName) -> Result<RevealedToken, TxError> {
        let write = self.begin(call).await?;
        // Locked, so that what is shown is the newest token also at the entry's place in the log.
        let key = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        let newest = key_token::Entity::find()
            .filter(key_token::Column::KeyUid.eq(uuid::Uuid::from(key.uid)))
            .order_by_desc(key_token::Column::Generation)
            .one(&write.tx)
            .await?;
        let newest = newest.ok_or_else(|| corrupt(format!("{name} has no token")))?;
        let (Some(key_id), Some(bytes)) = (newest.sealing_key_id, newest.sealed) else {
            return Err(Error::reveal_disabled(name).into());
        };
        let sealed = SealedSecret { key_id: u32::try_from(key_id).map_err(corrupt)?, bytes };
        let generation = u32::try_from(newest.generation).map_err(corrupt)?;
        let place = write.take_place().await?;
        write.commit(place, &Change::TokenRevealed { name: name.clone(), generation }, None).await?;
        Ok(RevealedToken { key, sealed })
    }
}
