use keyward_domain::{Error, Key, KeyName, Permission};
use keyward_store::{Call, RequestStamp, Rotation};
use keyward_token::Token;

use crate::app::{App, Caller, Receipt, visible};

/// A new key with its token, and the key that it replaces.
pub(crate) struct Rotated {
    pub(crate) key: Key,
    pub(crate) old: Key,
    /// None on a retry when tokens are not sealed.
    pub(crate) token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    pub(crate) fn may_rotate_key(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::KeyRotate, name)
    }

    /// Makes a key that replaces another one.
    pub(crate) async fn rotate_key(
        &self,
        caller: &Caller,
        rotation: Rotation,
        request: Option<RequestStamp>,
    ) -> Result<Rotated, Error> {
        let call = Call { request, ..self.call_on(caller, Permission::KeyRotate, &rotation.old) };
        // A platform never changes, so what is read here holds in the transaction.
        let old = self.store.key(&rotation.old).await?.ok_or_else(|| Error::key_not_found(&rotation.old))?;
        let (token, mint) = self.secrets.mint(old.platform.token_kind())?;
        let rotated = self.store.rotate_key(&call, &rotation, &mint).await?;
        let token = self.secret_of(token, rotated.secret, rotated.key.uid)?;
        let receipt = self.push(rotated.revision).await;
        let (key, old) = (rotated.key, rotated.old);
        tracing::info!(revision = %rotated.revision, key = %key.name, old = %old.name, actor = %caller.id, "key rotated");
        Ok(Rotated { key, old, token, receipt })
    }
}
