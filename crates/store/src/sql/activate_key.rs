use keyward_domain::{Change, Error, KeyName, KeyState};

use crate::connect::Store;
use crate::sql::change_key::{Alteration, ChangedKey};
use crate::write::{Call, retry};

impl Store {
    /// Makes a key active again, and takes a scheduled deactivation back. A key that is active already, and is to stay so,
    /// stays as it is, whatever the etag.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `KEY_NOT_FOUND`, `ETAG_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn activate_key(&self, call: &Call, name: &KeyName, etag: &str) -> Result<ChangedKey, Error> {
        let alteration = Alteration {
            is_done: &|key| key.state == KeyState::Active && key.schedule.is_none(),
            apply: &|key, place| key.activated(etag, place.time, place.revision),
            log: |before, after| Change::KeyActivated { before, after },
        };
        retry!(self.change_key_once(call, name, &alteration))
    }
}
