use keyward_domain::{Error, Key, KeyName, Permission};

use crate::app::{App, Caller, Receipt, visible};

impl App {
    pub(crate) fn may_activate_key(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::KeyActivate, name)
    }

    /// Makes a key active again.
    pub(crate) async fn activate_key(
        &self,
        caller: &Caller,
        name: &KeyName,
        etag: &str,
    ) -> Result<(Key, Receipt), Error> {
        let call = self.call_on(caller, Permission::KeyActivate, name);
        let activated = self.store.activate_key(&call, name, etag).await?;
        tracing::info!(revision = %activated.revision, key = %name, actor = %caller.id, "key activated");
        let receipt = self.push(activated.revision).await;
        Ok((activated.key, receipt))
    }
}
