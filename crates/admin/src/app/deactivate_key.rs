use std::time::Duration;

use keyward_domain::{Error, Key, KeyName, Permission};

use crate::app::fence::within;
use crate::app::{App, Caller, Receipt, visible};

impl App {
    pub(crate) fn may_deactivate_key(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::KeyDeactivate, name)
    }

    /// Deactivates a key. Once this returns OK no validator accepts its token, also when the key was
    /// deactivated before: the caller may be repeating a call whose answer was lost.
    ///
    /// `patience`: how long the caller waits at all.
    pub(crate) async fn deactivate_key(
        &self,
        caller: &Caller,
        name: &KeyName,
        etag: &str,
        patience: Option<Duration>,
    ) -> Result<(Key, Receipt), Error> {
        let begun = std::time::Instant::now();
        let call = self.call_on(caller, Permission::KeyDeactivate, name);
        let deactivated = self.store.deactivate_key(&call, name, etag).await?;
        tracing::info!(revision = %deactivated.revision, key = %name, actor = %caller.id, "key deactivated");
        let receipt = self.fence(deactivated.revision, within(patience, begun.elapsed())).await?;
        Ok((deactivated.key, receipt))
    }
}
