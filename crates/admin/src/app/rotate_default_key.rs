use std::time::Duration;

use keyward_domain::{Error, Key, KeyName, Permission, Reason};
use keyward_store::{Call, RequestStamp};
use keyward_token::Token;

use crate::app::fence::within;
use crate::app::{App, Caller, Receipt, visible};

impl App {
    pub(crate) fn may_rotate_default_key(&self, caller: &Caller, name: &KeyName) -> Result<(), Error> {
        visible::on_key(caller, Permission::DefaultKeyRotate, name)
    }

    /// Gives a default key a new token; the old one dies after `grace`. This waits as a deactivation does: the old token's
    /// end has moved to an earlier instant, and every validator must know it. The token comes back only where nobody could
    /// reveal it.
    pub(crate) async fn rotate_default_key(
        &self,
        caller: &Caller,
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
        let shown = (!is_kept && !rotated.replayed).then_some(token);
        let receipt = match self.fence(rotated.revision, within(patience, begun.elapsed())).await {
            // An error would lose the one copy of the token. The receipt says what is still to be waited for.
            Err(error) if error.reason() == Reason::NotYetEnforced && shown.is_some() => {
                self.push(rotated.revision).await
            }
            fenced => fenced?,
        };
        Ok((rotated.key, shown, receipt))
    }
}
