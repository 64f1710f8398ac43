use std::time::Duration;

use keyward_domain::{Error, Key, KeyId, KeyName};
use keyward_store::{RequestStamp, Rotation};
use keyward_token::Token;

use crate::app::{App, Receipt};
use crate::auth::Authorized;

/// A new key with its token, and the key that it replaces.
pub(crate) struct Rotated {
    pub(crate) key: Key,
    pub(crate) old: Key,
    /// `None` on a retry if the token cannot be returned again: it is not sealed, or no longer in use.
    pub(crate) token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Creates the key `new`, which replaces the authorized key. With `deactivate_old_after` Keyward deactivates the
    /// replaced key that long after the rotation.
    pub(crate) async fn rotate_key(
        &self,
        by: &Authorized<KeyName>,
        new: KeyId,
        deactivate_old_after: Option<Duration>,
        request: Option<RequestStamp>,
    ) -> Result<Rotated, Error> {
        let rotation = Rotation { old: by.target.clone(), new, deactivate_old_after };
        // A platform never changes, so the one that is read here is the transaction's too.
        let old = self.store.key(&rotation.old).await?.ok_or_else(|| Error::key_not_found(&rotation.old))?;
        let (token, mint) = self.secrets.mint(old.platform.token_kind())?;
        let rotated = self.store.rotate_key(&by.call(request), &rotation, &mint).await?;
        let token = self.secret_of(token, rotated.secret, rotated.key.uid)?;
        let receipt = self.push(rotated.revision).await;
        let (key, old) = (rotated.key, rotated.old);
        tracing::info!(revision = %rotated.revision, key = %key.name, old = %old.name, actor = %by.actor(), "key rotated");
        Ok(Rotated { key, old, token, receipt })
    }
}
