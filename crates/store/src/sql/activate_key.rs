use keyward_domain::{Change, Error, KeyName, KeyState};

use crate::clock::now;
use crate::error::TxError;
use crate::retry::retry;
use crate::sql::change_key::{ChangedKey, KeyChange, change_locked_key};
use crate::sql::get::lock_key;
use crate::sql::withheld::is_withheld;
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Activates a key and cancels its scheduled deactivation. Changes nothing, whatever the etag, if the key is active and
    /// no deactivation is scheduled.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `KEY_WITHHELD`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn activate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, Error> {
        retry(|| self.activate_key_once(call, name, etag)).await
    }

    async fn activate_key_once(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, TxError> {
        let change = KeyChange {
            is_done: &|key| key.state == KeyState::Active && key.schedule.is_none(),
            apply: &|key, next| key.activated(etag, next.time, next.revision),
            log: |before, after| Change::KeyActivated { before, after },
        };
        let write = self.begin(call).await?;
        let before = lock_key(&write.tx, name).await?.ok_or_else(|| Error::key_not_found(name))?;
        // Its tokens would stay denied, whatever the state in the database.
        if is_withheld(&write.tx, &before, now(&write.tx).await?).await? {
            return Err(Error::key_withheld(name).into());
        }
        change_locked_key(write, before, &change).await
    }
}
