use std::time::Duration;

use keyward_domain::{Change, Error, Issuance, Key, KeyDraft, KeyId, KeyName, KeyRecord, Revision, Schedule};
use sea_orm::ActiveModelTrait;

use crate::convert::from_key;
use crate::error::TxError;
use crate::retry::retry;
use crate::secret::{IssuedSecret, SecretRecord};
use crate::sql::change_key::tokens_of;
use crate::sql::create_key::{insert_key, new_key};
use crate::sql::get::{find_key, lock_key};
use crate::sql::replay::replay_token;
use crate::store::Store;
use crate::write::{Call, Replay, Write};

/// A request to replace a key by a new one.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The key to replace.
    pub old: KeyName,
    /// The id of the new key, in the same project.
    pub new: KeyId,
    /// How long after the rotation the old key is deactivated; `None` if it is not deactivated automatically.
    pub deactivate_old_after: Option<Duration>,
}

/// The result of [`Store::rotate_key`].
#[derive(Clone, Debug)]
pub struct RotatedKey {
    /// The new key: as created, or its current state if the request was a retry.
    pub key: Key,
    /// The old key: after the rotation, or its current state if the request was a retry.
    pub old: Key,
    /// The revision of the rotation.
    pub revision: Revision,
    /// The new token in the answer.
    pub secret: IssuedSecret,
}

impl Rotation {
    fn new_name(&self) -> KeyName {
        KeyName { project: self.old.project.clone(), key: self.new.clone() }
    }
}

impl Store {
    /// Creates a key that replaces another one. Both are active. `secret` is of a token of the old key's kind.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `KEY_DEACTIVATED`, `KEY_REPLACED`, `KEY_NAME_TAKEN`,
    /// `REQUEST_ID_REUSED`, `STORE_UNAVAILABLE`.
    pub async fn rotate_key(
        &self,
        call: &Call,
        rotation: &Rotation,
        secret: &SecretRecord,
    ) -> Result<RotatedKey, Error> {
        retry(|| self.rotate_key_once(call, rotation, secret)).await
    }

    async fn rotate_key_once(
        &self,
        call: &Call,
        rotation: &Rotation,
        secret: &SecretRecord,
    ) -> Result<RotatedKey, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, &rotation.old).await?.ok_or_else(|| Error::key_not_found(&rotation.old))?;
        let new_name = rotation.new_name();
        let taken = find_key(&write.tx, &new_name).await?.is_some();
        if let Some(replay) = write.replay(Some(&new_name.to_string())).await? {
            return replayed(write, before, &new_name, replay).await;
        }
        if taken {
            return Err(Error::key_name_taken(&new_name).into());
        }
        let next = write.next_entry().await?;
        let by = write.actor().clone();
        let schedule = rotation.deactivate_old_after.map(|after| Schedule { time: next.time.plus(after), by });
        let old = before.replaced(&rotation.new, schedule, next.time, next.revision)?;
        let draft = KeyDraft {
            name: new_name,
            description: before.description.clone(),
            platform: before.platform,
            expire_time: None,
            annotations: before.annotations.clone(),
        };
        let key = new_key(&draft, secret, write.actor(), &next);
        let key = Key { replaces: Some(before.name.key.clone()), ..key };
        let record = insert_key(&write.tx, key, secret).await?;
        from_key(&old)?.update(&write.tx).await?;
        let tokens = tokens_of(&write.tx, &old).await?;
        let rotated = RotatedKey {
            key: record.key.clone(),
            old: old.clone(),
            revision: next.revision,
            secret: IssuedSecret::New,
        };
        let after = Box::new(KeyRecord { key: old, tokens });
        let change = Change::KeyRotated { before: Box::new(before), after, key: Box::new(record) };
        write.commit(next, &change, secret.sealed.as_ref()).await?;
        Ok(rotated)
    }
}

async fn replayed(write: Write<'_>, old: Key, new: &KeyName, replay: Replay) -> Result<RotatedKey, TxError> {
    let (key, secret) = replay_token(write, new, Issuance::RotateKey, replay.sealed).await?;
    Ok(RotatedKey { key, old, revision: replay.revision, secret })
}
