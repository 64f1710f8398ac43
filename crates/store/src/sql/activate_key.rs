use keyward_domain::{Change, Error, KeyName, KeyState};

use crate::retry::retry;
use crate::sql::change_key::{ChangedKey, KeyChange};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Activates a key and cancels its scheduled deactivation. Changes nothing, whatever the etag, if the key is active and
    /// no deactivation is scheduled.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn activate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, Error> {
        let change = KeyChange {
            is_done: &|key| key.state == KeyState::Active && key.schedule.is_none(),
            apply: &|key, next| key.activated(etag, next.time, next.revision),
            log: |before, after| Change::KeyActivated { before, after },
        };
        retry(|| self.change_key_once(call, name, &change)).await
    }
}
