use keyward_domain::{Error, Key, KeyName, Permission};

use crate::app::{App, Caller, visible};

impl App {
    pub(crate) async fn get_key(&self, caller: &Caller, name: &KeyName) -> Result<Key, Error> {
        visible::on_key(caller, Permission::KeyGet, name)?;
        self.store.key(name).await?.ok_or_else(|| Error::key_not_found(name))
    }
}
