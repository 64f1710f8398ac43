use keyward_domain::{Change, Error, KeyName, KeyState};

use crate::connect::Store;
use crate::sql::change_key::{Alteration, ChangedKey};
use crate::write::{Call, retry};

impl Store {
    /// Deactivates a key. A key that is deactivated already stays as it is, whatever the etag.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `DEFAULT_KEY_PROTECTED`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn deactivate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, Error> {
        let alteration = Alteration {
            is_done: &|key| key.state == KeyState::Deactivated,
            apply: &|key, place| key.deactivated(&call.actor, etag, place.time, place.revision),
            log: |before, after| Change::KeyDeactivated { before, after },
        };
        retry!(self.change_key_once(call, name, &alteration))
    }
}
