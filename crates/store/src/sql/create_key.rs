use keyward_domain::{Change, Error, Key, KeyDraft, KeyRecord, KeyState, MemberId, Revision, Timestamp, TokenRecord};
use sea_orm::ActiveModelTrait;
use sea_orm::ActiveValue::Set;

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::{from_key, to_token_record};
use crate::entity::key_token;
use crate::error::{TxError, corrupt};
use crate::sql::get::{find_key, find_project};
use crate::write::{Call, Place, Replay, SealedSecret, SecretRecord, Write, retry};

/// What a creation left behind.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// The key: as created, or as it is now when the request was a retry.
    pub key: Key,
    /// The revision that created it.
    pub revision: Revision,
    /// Set when the request was a retry: the token that the first answer carried, if it could be sealed.
    pub replayed: Option<Option<SealedSecret>>,
}

impl Store {
    /// Creates a key, active at once.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `PROJECT_NOT_FOUND`, `KEY_NAME_TAKEN`, `FIELD_INVALID` on the expiry, `REQUEST_ID_REUSED`,
    /// `STORE_UNAVAILABLE`.
    pub async fn create_key(&self, call: &Call, draft: &KeyDraft, mint: &SecretRecord) -> Result<CreatedKey, Error> {
        retry!(self.create_key_once(call, draft, mint))
    }

    async fn create_key_once(&self, call: &Call, draft: &KeyDraft, mint: &SecretRecord) -> Result<CreatedKey, TxError> {
        let write = self.begin(call).await?;
        let taken = find_key(&write.tx, &draft.name).await?.is_some();
        if let Some(replay) = write.replay().await? {
            return replayed(&write, draft, replay).await;
        }
        if find_project(&write.tx, &draft.name.project).await?.is_none() {
            return Err(Error::project_not_found(&draft.name.project).into());
        }
        if taken {
            return Err(Error::key_name_taken(&draft.name).into());
        }
        let place = write.take_place().await?;
        draft.check_expiry(place.time)?;
        let key = new_key(draft, mint, write.actor(), &place, false);
        let record = insert_key(&write.tx, key, mint).await?;
        let created = CreatedKey { key: record.key.clone(), revision: place.revision, replayed: None };
        write.commit(place, &Change::KeyCreated { key: Box::new(record) }, mint.sealed.as_ref()).await?;
        Ok(created)
    }
}

async fn replayed(write: &Write<'_>, draft: &KeyDraft, replay: Replay) -> Result<CreatedKey, TxError> {
    let key = find_key(&write.tx, &draft.name).await?.ok_or_else(|| corrupt("remembered key is gone"))?;
    Ok(CreatedKey { key, revision: replay.revision, replayed: Some(replay.sealed) })
}

/// A key as it is at its creation.
pub(crate) fn new_key(
    draft: &KeyDraft,
    mint: &SecretRecord,
    creator: &MemberId,
    place: &Place,
    default_key: bool,
) -> Key {
    Key {
        uid: mint.uid,
        name: draft.name.clone(),
        state: KeyState::Active,
        default_key,
        description: draft.description.clone(),
        platform: draft.platform,
        last4: mint.last4.clone(),
        creator: creator.clone(),
        create_time: place.time,
        update_time: place.time,
        deactivator: None,
        deactivate_time: None,
        expire_time: draft.expire_time,
        schedule: None,
        replaces: None,
        replaced_by: None,
        annotations: draft.annotations.clone(),
        create_revision: place.revision,
        revision: place.revision,
    }
}

/// Writes a key's row and its first token's.
pub(crate) async fn insert_key(tx: &Transaction, key: Key, mint: &SecretRecord) -> Result<KeyRecord, TxError> {
    from_key(&key)?.insert(tx).await?;
    let token = insert_token(tx, &key, mint, 1, key.create_time).await?;
    Ok(KeyRecord { key, tokens: vec![token] })
}

/// Writes the row of a key's token.
pub(crate) async fn insert_token(
    tx: &Transaction,
    key: &Key,
    mint: &SecretRecord,
    generation: u32,
    time: Timestamp,
) -> Result<TokenRecord, TxError> {
    let sealed = mint.sealed.as_ref();
    let row = key_token::ActiveModel {
        digest: Set(mint.digest.as_bytes().to_vec()),
        digest_key_id: Set(i32::try_from(mint.digest_key_id).map_err(corrupt)?),
        key_uid: Set(key.uid.into()),
        generation: Set(i32::try_from(generation).map_err(corrupt)?),
        not_after: Set(None),
        sealed: Set(sealed.map(|s| s.bytes.clone())),
        sealing_key_id: Set(sealed.map(|s| i32::try_from(s.key_id)).transpose().map_err(corrupt)?),
        create_time: Set(time.as_micros()),
    };
    Ok(to_token_record(&row.insert(tx).await?)?)
}
