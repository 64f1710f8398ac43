use keyward_domain::{Error, Key, KeyName};

use crate::app::App;
use crate::auth::Authorized;

impl App {
    pub(crate) async fn get_key(&self, by: &Authorized<KeyName>) -> Result<Key, Error> {
        self.store.key(&by.target).await?.ok_or_else(|| Error::key_not_found(&by.target))
    }
}
