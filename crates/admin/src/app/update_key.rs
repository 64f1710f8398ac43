use std::time::{Duration, Instant};

use keyward_domain::{Error, Key, KeyName, KeyUpdate};

use crate::app::fence::remaining;
use crate::app::{App, Receipt};
use crate::auth::Authorized;

impl App {
    /// Changes a key's fields. With an expiry in the update this waits for the fence as a deactivation does, because the new
    /// expiry may be earlier. That includes an update that changes nothing: it may be a retry whose first answer was lost.
    pub(crate) async fn update_key(
        &self,
        by: &Authorized<KeyName>,
        update: &KeyUpdate,
        etag: &str,
        timeout: Option<Duration>,
    ) -> Result<(Key, Receipt), Error> {
        let (begun, name) = (Instant::now(), &by.target);
        let updated = self.store.update_key(&by.call(None), name, update, etag).await?;
        tracing::info!(revision = %updated.revision, key = %name, actor = %by.actor(), "key updated");
        let receipt = if update.expire_time.value().is_some() {
            self.fence(updated.revision, remaining(timeout, begun.elapsed())).await?
        } else {
            self.push(updated.revision).await
        };
        Ok((updated.key, receipt))
    }
}
