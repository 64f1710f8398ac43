use std::time::Duration;

use keyward_domain::{Change, Error, Key, KeyName, KeyRecord, Revision, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};

use crate::connection::Transaction;
use crate::convert::from_key;
use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::retry::retry;
use crate::secret::SecretRecord;
use crate::sql::change_key::tokens_of;
use crate::sql::create_key::insert_token;
use crate::sql::get::lock_key;
use crate::store::Store;
use crate::write::Call;

/// The result of [`Store::rotate_default_key`].
#[derive(Clone, Debug)]
pub struct RotatedToken {
    /// The key after the rotation.
    pub key: Key,
    /// The revision of the rotation.
    pub revision: Revision,
    /// `true` if the request was a retry: the caller's new token was not stored.
    pub replayed: bool,
}

impl Store {
    /// Gives a default key a new token. Older tokens end after `grace`. `secret` is sealed for the key's uid.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `FIELD_INVALID` if the key is not a default key, `REQUEST_ID_REUSED`,
    /// `STORE_UNAVAILABLE`.
    pub async fn rotate_default_key(
        &self,
        call: &Call,
        name: &KeyName,
        grace: Duration,
        secret: &SecretRecord,
    ) -> Result<RotatedToken, Error> {
        retry(|| self.rotate_default_key_once(call, name, grace, secret)).await
    }

    async fn rotate_default_key_once(
        &self,
        call: &Call,
        name: &KeyName,
        grace: Duration,
        secret: &SecretRecord,
    ) -> Result<RotatedToken, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        if let Some(replay) = write.replay(Some(&name.to_string())).await? {
            return Ok(RotatedToken { key: before, revision: replay.revision, replayed: true });
        }
        if !before.default_key {
            return Err(Error::field("name", "a default key's; other keys are rotated by RotateKey").into());
        }
        let next = write.next_entry().await?;
        supersede(&write.tx, &before, end_of_old(next.time, grace)).await?;
        let newest = tokens_of(&write.tx, &before).await?.last().map_or(0, |token| token.entry.generation);
        let key =
            Key { last4: secret.last4.clone(), update_time: next.time, revision: next.revision, ..before.clone() };
        insert_token(&write.tx, &key, secret, newest + 1, next.time).await?;
        from_key(&key)?.update(&write.tx).await?;
        let tokens = tokens_of(&write.tx, &key).await?;
        let rotated = RotatedToken { key: key.clone(), revision: next.revision, replayed: false };
        let after = Box::new(KeyRecord { key, tokens });
        // No secret is kept for a retry: with a sealing key the token can be revealed, without one it is shown once.
        write.commit(next, &Change::TokenRotated { before: Box::new(before), after }, None).await?;
        Ok(rotated)
    }
}

/// When older tokens end. Without grace they end at the first microsecond of 1970, because an ended token must stay ended.
/// Validators compare ends with the database's clock, which may stop or be set back, and which a validator extrapolates from
/// an earlier reading.
fn end_of_old(now: Timestamp, grace: Duration) -> Timestamp {
    if grace.is_zero() { Timestamp::from_micros(1) } else { now.plus(grace) }
}

/// Ends every token of the key at `time`, except tokens that end earlier.
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
