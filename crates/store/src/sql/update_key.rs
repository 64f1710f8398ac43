use keyward_domain::{Change, Error, KeyName, KeyUpdate};

use crate::connect::Store;
use crate::sql::change_key::{Alteration, ChangedKey};
use crate::write::{Call, retry};

impl Store {
    /// Changes what a key says, and when it expires. A key that is as it should be already stays so, whatever the etag.
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
        let alteration = Alteration {
            is_done: &|key| key.has_all_of(update),
            apply: &|key, place| key.updated(update, &call.actor, etag, place.time, place.revision),
            log: |before, after| Change::KeyUpdated { before, after },
        };
        retry!(self.change_key_once(call, name, &alteration))
    }
}
