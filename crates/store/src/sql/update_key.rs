use keyward_domain::{Change, Error, KeyName, KeyUpdate};

use crate::retry::retry;
use crate::sql::change_key::{ChangedKey, KeyChange};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Changes the description, annotations, expiry or scheduled deactivation of a key. Changes nothing, whatever the etag, if
    /// the key has all the requested values already.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `KEY_DEACTIVATED`, `FIELD_INVALID` on an instant,
    /// `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn update_key(
        &self,
        call: &Call,
        name: &KeyName,
        update: &KeyUpdate,
        etag: &str,
    ) -> Result<ChangedKey, Error> {
        let change = KeyChange {
            is_done: &|key| key.has_all_of(update),
            apply: &|key, next| key.updated(update, &call.actor, etag, next.time, next.revision),
            log: |before, after| Change::KeyUpdated { before, after },
        };
        retry(|| self.change_key_once(call, name, &change)).await
    }
}
