use std::time::Duration;

use keyward_domain::{Change, Error, Key, KeyDraft, KeyId, KeyName, KeyRecord, Revision, Schedule};
use sea_orm::ActiveModelTrait;

use crate::connect::Store;
use crate::convert::from_key;
use crate::error::{TxError, corrupt};
use crate::sql::change_key::tokens_of;
use crate::sql::create_key::{insert_key, new_key};
use crate::sql::get::{find_key, lock_key};
use crate::write::{Call, Replay, SealedSecret, SecretRecord, Write, retry};

/// What a rotation is asked for.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The key to be replaced.
    pub old: KeyName,
    /// The new key's name in the same project.
    pub new: KeyId,
    /// So long afterwards the old key is to be deactivated; `None`: not by itself.
    pub deactivate_old_after: Option<Duration>,
}

/// What a rotation left behind.
#[derive(Clone, Debug)]
pub struct RotatedKey {
    /// The new key: as created, or as it is now when the request was a retry.
    pub key: Key,
    /// The old one, likewise.
    pub old: Key,
    /// The revision that did it.
    pub revision: Revision,
    /// As in [`crate::CreatedKey`].
    pub replayed: Option<Option<SealedSecret>>,
}

impl Rotation {
    fn new_name(&self) -> KeyName {
        KeyName { project: self.old.project.clone(), key: self.new.clone() }
    }
}

impl Store {
    /// Makes a key that replaces another one; both are active. `mint`: of a token of the old key's kind.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `KEY_DEACTIVATED`, `KEY_REPLACED`, `KEY_NAME_TAKEN`,
    /// `REQUEST_ID_REUSED`, `STORE_UNAVAILABLE`.
    pub async fn rotate_key(&self, call: &Call, rotation: &Rotation, mint: &SecretRecord) -> Result<RotatedKey, Error> {
        retry!(self.rotate_key_once(call, rotation, mint))
    }

    async fn rotate_key_once(
        &self,
        call: &Call,
        rotation: &Rotation,
        mint: &SecretRecord,
    ) -> Result<RotatedKey, TxError> {
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, &rotation.old).await?.ok_or_else(|| Error::key_not_found(&rotation.old))?;
        let new_name = rotation.new_name();
        let taken = find_key(&write.tx, &new_name).await?.is_some();
        if let Some(replay) = write.replay().await? {
            return replayed(&write, before, &new_name, replay).await;
        }
        if taken {
            return Err(Error::key_name_taken(&new_name).into());
        }
        let place = write.take_place().await?;
        let by = write.actor().clone();
        let schedule = rotation.deactivate_old_after.map(|after| Schedule { time: place.time.plus(after), by });
        let old = before.replaced(&rotation.new, schedule, place.time, place.revision)?;
        let draft = KeyDraft {
            name: new_name,
            description: before.description.clone(),
            platform: before.platform,
            expire_time: None,
            annotations: before.annotations.clone(),
        };
        let key = new_key(&draft, mint, write.actor(), &place, false);
        let key = Key { replaces: Some(before.name.key.clone()), ..key };
        let record = insert_key(&write.tx, key, mint).await?;
        from_key(&old)?.update(&write.tx).await?;
        let tokens = tokens_of(&write.tx, &old).await?;
        let rotated =
            RotatedKey { key: record.key.clone(), old: old.clone(), revision: place.revision, replayed: None };
        let after = Box::new(KeyRecord { key: old, tokens });
        let change = Change::KeyRotated { before: Box::new(before), after, key: Box::new(record) };
        write.commit(place, &change, mint.sealed.as_ref()).await?;
        Ok(rotated)
    }
}

async fn replayed(write: &Write<'_>, old: Key, new: &KeyName, replay: Replay) -> Result<RotatedKey, TxError> {
    let key = find_key(&write.tx, new).await?.ok_or_else(|| corrupt("remembered key is gone"))?;
    Ok(RotatedKey { key, old, revision: replay.revision, replayed: Some(replay.sealed) })
}
