use keyward_domain::{Error, Key};

use crate::app::App;
use crate::auth::Authorized;

impl App {
    /// Finds the key that a token belongs or belonged to.
    pub(crate) async fn lookup_key(&self, by: &Authorized, token: &str) -> Result<Key, Error> {
        let digests = self.secrets.token_digests(token).ok_or_else(|| {
            Error::field("token", "a whole token of a key, as it was handed out: prefix, 43 characters and checksum")
        })?;
        for digest in digests {
            if let Some(key) = self.store.key_by_token(&digest).await? {
                tracing::info!(key = %key.name, actor = %by.actor(), "token looked up");
                return Ok(key);
            }
        }
        Err(Error::token_unknown())
    }
}
