use keyward_domain::{Error, Key, Permission};

use crate::app::{App, Caller, visible};

impl App {
    /// The key that a token belongs to, or belonged to.
    pub(crate) async fn lookup_key(&self, caller: &Caller, token: &str) -> Result<Key, Error> {
        visible::on_platform(caller, Permission::KeyLookup)?;
        let digests = self.secrets.token_digests(token).ok_or_else(|| {
            Error::field("token", "a whole token of a key, as it was handed out: prefix, 43 characters and checksum")
        })?;
        for digest in digests {
            if let Some(key) = self.store.key_by_token(&digest).await? {
                tracing::info!(key = %key.name, actor = %caller.id, "token looked up");
                return Ok(key);
            }
        }
        Err(Error::token_unknown())
    }
}
