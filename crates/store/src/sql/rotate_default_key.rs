use std::time::Duration;

use keyward_domain::{Change, Error, Key, KeyName, KeyRecord, Revision, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::from_key;
use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::sql::change_key::tokens_of;
use crate::sql::create_key::insert_token;
use crate::sql::get::lock_key;
use crate::write::{Call, SecretRecord, retry};

/// What the rotation of a default key left behind.
#[derive(Clone, Debug)]
pub struct RotatedToken {
    /// The key as it is now.
    pub key: Key,
    /// The revision that did it.
    pub revision: Revision,
    /// Set when the request was a retry.
    pub replayed: bool,
}

impl Store {
    /// Gives a default key a new token; older ones are superseded after `grace`. `mint`: of a token sealed for the key's
    /// uid.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `FIELD_INVALID` for a key that is no default key, `REQUEST_ID_REUSED`,
    /// `STORE_UNAVAILABLE`.
    pub async fn rotate_default_key(
        &self,
        call: &Call,
        name: &KeyName,
        grace: Duration,
        mint: &SecretRecord,
    ) -> Result<RotatedToken, Error> {
        retry!(self.rotate_default_key_once(call, name, grace, mint))
    }

    async fn rotate_default_key_once(
        &self,
        call: &Call,
        name: &KeyName,
        grace: Duration,
        mint: &SecretRecord,
    ) -> Result<RotatedToken, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if let Some(replay) = write.replay().await? {
            return Ok(RotatedToken { key: before, revision: replay.revision, replayed: true });
        }
        if !before.default_key {
            return Err(Error::field("name", "a default key's; other keys are rotated by RotateKey").into());
        }
        let place = write.take_place().await?;
        supersede(&write.tx, &before, end_of_old(place.time, grace)).await?;
        let newest = tokens_of(&write.tx, &before).await?.last().map_or(0, |token| token.entry.generation);
        let key =
            Key { last4: mint.last4.clone(), update_time: place.time, revision: place.revision, ..before.clone() };
        insert_token(&write.tx, &key, mint, newest + 1, place.time).await?;
        from_key(&key)?.update(&write.tx).await?;
        let tokens = tokens_of(&write.tx, &key).await?;
        let rotated = RotatedToken { key: key.clone(), revision: place.revision, replayed: false };
        let after = Box::new(KeyRecord { key, tokens });
        // Nothing is kept for a retry: the token is revealed, or was shown once.
        write.commit(place, &Change::TokenRotated { before: Box::new(before), after }, None).await?;
        Ok(rotated)
    }
}

/// When older tokens end. At once is an instant that lies behind every clock: validators judge by the database's, which
/// may stand still, be set back, or run ahead of what they were last told, and what is dead must stay dead.
fn end_of_old(now: Timestamp, grace: Duration) -> Timestamp {
    if grace.is_zero() { Timestamp::from_micros(1) } else { now.plus(grace) }
}

/// Ends every token of the key at `time`, unless it ends before.
async fn supersede(tx: &Transaction, key: &Key, time: Timestamp) -> Result<(), TxError> {
    let tokens = tokens_of(tx, key).await?.into_iter().map(|token| token.entry);
    for token in tokens.filter(|token| token.not_after.is_none_or(|end| time < end)) {
        let row = key_token::Entity::find_by_id(token.digest.as_bytes().to_vec()).one(tx).await?;
        let mut row: key_token::ActiveModel = row.ok_or_else(|| corrupt("a token is gone"))?.into();
        row.not_after = Set(Some(time.as_micros()));
        row.update(tx).await?;
    }
    Ok(())
}
