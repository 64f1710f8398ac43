use keyward_domain::{Error, Key, KeyName};

use crate::app::{App, Receipt};
use crate::auth::Authorized;

impl App {
    /// Activates a deactivated key.
    pub(crate) async fn activate_key(&self, by: &Authorized<KeyName>, etag: &str) -> Result<(Key, Receipt), Error> {
        let name = &by.target;
        let activated = self.store.activate_key(&by.call(None), name, etag).await?;
        tracing::info!(revision = %activated.revision, key = %name, actor = %by.actor(), "key activated");
        let receipt = self.push(activated.revision).await;
        Ok((activated.key, receipt))
    }
}
