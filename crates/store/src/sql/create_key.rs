use keyward_domain::{
    Change, Error, Issuance, Key, KeyDraft, KeyRecord, KeyState, MemberId, Revision, Timestamp, TokenRecord,
};
use sea_orm::ActiveModelTrait;
use sea_orm::ActiveValue::Set;

use crate::connection::Transaction;
use crate::convert::{from_key, to_token_record};
use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::retry::retry;
use crate::secret::{IssuedSecret, SealedSecret, SecretRecord};
use crate::sql::get::{find_key, find_project};
use crate::sql::replay::replay_token;
use crate::store::Store;
use crate::write::{Call, NextEntry, Replay, Write};

/// The result of [`Store::create_key`].
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// The key: as created, or its current state if the request was a retry.
    pub key: Key,
    /// The revision that created it.
    pub revision: Revision,
    /// The token in the answer.
    pub secret: IssuedSecret,
}

impl Store {
    /// Creates a key, which is active at once.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `PROJECT_NOT_FOUND`, `KEY_NAME_TAKEN`, `FIELD_INVALID` on the expiry, `REQUEST_ID_REUSED`,
    /// `STORE_UNAVAILABLE`.
    pub async fn create_key(&self, call: &Call, draft: &KeyDraft, secret: &SecretRecord) -> Result<CreatedKey, Error> {
        retry(|| self.create_key_once(call, draft, secret)).await
    }

    async fn create_key_once(
        &self,
        call: &Call,
        draft: &KeyDraft,
        secret: &SecretRecord,
    ) -> Result<CreatedKey, TxError> {
        let write = self.begin(call).await?;
        let taken = find_key(&write.tx, &draft.name).await?.is_some();
        if let Some(replay) = write.replay(Some(&draft.name.to_string())).await? {
            return replayed(write, draft, replay).await;
        }
        if find_project(&write.tx, &draft.name.project).await?.is_none() {
            return Err(Error::project_not_found(&draft.name.project).into());
        }
        if taken {
            return Err(Error::key_name_taken(&draft.name).into());
        }
        let next = write.next_entry().await?;
        draft.check_expiry(next.time)?;
        let key = new_key(draft, secret, write.actor(), &next);
        let record = insert_key(&write.tx, key, secret).await?;
        let created = CreatedKey { key: record.key.clone(), revision: next.revision, secret: IssuedSecret::New };
        write.commit(next, &Change::KeyCreated { key: Box::new(record) }, secret.sealed.as_ref()).await?;
        Ok(created)
    }
}

async fn replayed(write: Write<'_>, draft: &KeyDraft, replay: Replay) -> Result<CreatedKey, TxError> {
    let (key, secret) = replay_token(write, &draft.name, Issuance::CreateKey, replay.sealed).await?;
    Ok(CreatedKey { key, revision: replay.revision, secret })
}

/// The key that a draft describes, in its state after creation. It is not a default key.
pub(crate) fn new_key(draft: &KeyDraft, secret: &SecretRecord, creator: &MemberId, next: &NextEntry) -> Key {
    Key {
        uid: secret.uid,
        name: draft.name.clone(),
        state: KeyState::Active,
        default_key: false,
        description: draft.description.clone(),
        platform: draft.platform,
        last4: secret.last4.clone(),
        creator: creator.clone(),
        create_time: next.time,
        update_time: next.time,
        deactivator: None,
        deactivate_time: None,
        expire_time: draft.expire_time,
        schedule: None,
        replaces: None,
        replaced_by: None,
        annotations: draft.annotations.clone(),
        create_revision: next.revision,
        revision: next.revision,
    }
}

/// Inserts the rows of a key and of its first token.
pub(crate) async fn insert_key(tx: &Transaction, key: Key, secret: &SecretRecord) -> Result<KeyRecord, TxError> {
    from_key(&key)?.insert(tx).await?;
    let token = insert_token(tx, &key, secret, 1, key.create_time).await?;
    Ok(KeyRecord { key, tokens: vec![token] })
}

/// Inserts the row of a token.
pub(crate) async fn insert_token(
    tx: &Transaction,
    key: &Key,
    secret: &SecretRecord,
    generation: u32,
    time: Timestamp,
) -> Result<TokenRecord, TxError> {
    let (sealing_key_id, sealed) = SealedSecret::to_columns(secret.sealed.as_ref())?;
    let row = key_token::ActiveModel {
        digest: Set(secret.digest.as_bytes().to_vec()),
        digest_key_id: Set(secret.digest_key_column()?),
        key_uid: Set(key.uid.into()),
        generation: Set(i32::try_from(generation).map_err(corrupt)?),
        not_after: Set(None),
        sealed: Set(sealed),
        sealing_key_id: Set(sealing_key_id),
        create_time: Set(time.as_micros()),
    };
    Ok(to_token_record(&row.insert(tx).await?)?)
}
