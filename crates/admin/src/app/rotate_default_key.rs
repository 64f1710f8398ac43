use std::time::Duration;

use keyward_domain::{Error, Key, KeyName, Member, Permission};
use keyward_store::{Call, RequestStamp};
use keyward_token::Token;

use crate::app::fence::within;
use crate::app::{App, Receipt, visible};

impl App {
    pub(crate) fn may_rotate_default_key(&self, caller: &Member, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::DefaultKeyRotate, name)
    }

    /// Gives a default key a new token; the old one dies after `grace`. Without one this waits as a deactivation does. The
    /// token comes back only where nobody could reveal it.
    pub(crate) async fn rotate_default_key(
        &self,
        caller: &Member,
        name: &KeyName,
        grace: Duration,
        request: Option<RequestStamp>,
        patience: Option<Duration>,
    ) -> Result<(Key, Option<Token>, Receipt), Error> {
        let begun = std::time::Instant::now();
        let call = Call { request, ..self.call_on(caller, Permission::DefaultKeyRotate, name) };
        // The uid never changes, so what is read here holds in the transaction.
        let key = self.store.key(name).await?.ok_or_else(|| Error::key_not_found(name))?;
        let (token, mint) = self.secrets.mint_for(key.platform.token_kind(), key.uid)?;
        let is_kept = mint.sealed.is_some();
        let rotated = self.store.rotate_default_key(&call, name, grace, &mint).await?;
        tracing::info!(revision = %rotated.revision, key = %name, actor = %caller.id, "default key rotated");
        let receipt = if grace.is_zero() {
            self.fence(rotated.revision, within(patience, begun.elapsed())).await?
        } else {
            self.push(rotated.revision).await
        };
        let shown = (!is_kept && rotated.replayed.is_none()).then_some(token);
        Ok((rotated.key, shown, receipt))
    }
}
