use std::time::{Duration, Instant};

use keyward_domain::{Error, Key, KeyName, Reason};
use keyward_store::RequestStamp;
use keyward_token::Token;

use crate::app::fence::remaining;
use crate::app::{App, Receipt};
use crate::auth::Authorized;

impl App {
    /// Gives a default key a new token and ends the old one after `grace`. Waits for the fence as a deactivation does,
    /// because every validator must know the old token's end. Returns the token only if it is not stored: a stored token can
    /// be revealed.
    pub(crate) async fn rotate_default_key(
        &self,
        by: &Authorized<KeyName>,
        grace: Duration,
        request: Option<RequestStamp>,
        timeout: Option<Duration>,
    ) -> Result<(Key, Option<Token>, Receipt), Error> {
        let (begun, name) = (Instant::now(), &by.target);
        // A uid never changes, so the one that is read here is the transaction's too.
        let key = self.store.key(name).await?.ok_or_else(|| Error::key_not_found(name))?;
        let (token, mint) = self.secrets.mint_for(key.platform.token_kind(), key.uid)?;
        let is_stored = mint.sealed.is_some();
        let rotated = self.store.rotate_default_key(&by.call(request), name, grace, &mint).await?;
        tracing::info!(revision = %rotated.revision, key = %name, actor = %by.actor(), "default key rotated");
        let shown = (!is_stored && !rotated.replayed).then_some(token);
        let receipt = match self.fence(rotated.revision, remaining(timeout, begun.elapsed())).await {
            // An error would lose the only copy of the token. The receipt shows that the fence is still pending.
            Err(error) if error.reason() == Reason::NotYetEnforced && shown.is_some() => {
                self.push(rotated.revision).await
            }
            fenced => fenced?,
        };
        Ok((rotated.key, shown, receipt))
    }
}
