use keyward_domain::{Change, Error, KeyName, KeyState};

use crate::retry::retry;
use crate::sql::change_key::{ChangedKey, KeyChange};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Deactivates a key. Changes nothing, whatever the etag, if the key is deactivated already.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn deactivate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, Error> {
        let change = KeyChange {
            is_done: &|key| key.state == KeyState::Deactivated,
            apply: &|key, next| key.deactivated(&call.actor, etag, next.time, next.revision),
            log: |before, after| Change::KeyDeactivated { before, after },
        };
        retry(|| self.change_key_once(call, name, &change)).await
    }
}
