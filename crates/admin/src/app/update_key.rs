use std::time::Duration;

use keyward_domain::{Error, Key, KeyName, KeyUpdate, Permission};

use crate::app::fence::within;
use crate::app::{App, Caller, Receipt, visible};

impl App {
    pub(crate) fn may_update_key(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::KeyUpdate, name)
    }

    /// Changes what a key says, and when it expires. With an expiry in it this waits as a deactivation does: it may be an
    /// earlier one, also when the caller repeats a call whose answer was lost.
    pub(crate) async fn update_key(
        &self,
        caller: &Caller,
        name: &KeyName,
        update: &KeyUpdate,
        etag: &str,
        patience: Option<Duration>,
    ) -> Result<(Key, Receipt), Error> {
        let begun = std::time::Instant::now();
        let call = self.call_on(caller, Permission::KeyUpdate, name);
        let updated = self.store.update_key(&call, name, update, etag).await?;
        tracing::info!(revision = %updated.revision, key = %name, actor = %caller.id, "key updated");
        let receipt = if matches!(update.expire_time, Some(Some(_))) {
            self.fence(updated.revision, within(patience, begun.elapsed())).await?
        } else {
            self.push(updated.revision).await
        };
        Ok((updated.key, receipt))
    }
}
