use std::time::{Duration, Instant};

use keyward_domain::{CredentialName, Error};

use crate::app::fence::remaining;
use crate::app::{App, MemberView, Receipt};
use crate::auth::Authorized;

impl App {
    /// Revokes a credential. Admins refuse it from the commit on. The fence waits for validators whose sessions it
    /// authenticated.
    pub(crate) async fn revoke_credential(
        &self,
        by: &Authorized,
        name: &CredentialName,
        timeout: Option<Duration>,
    ) -> Result<(MemberView, Receipt), Error> {
        let begun = Instant::now();
        let changed = self.store.revoke_credential(&by.call(None), name).await?;
        let revision = changed.revision;
        tracing::info!(%revision, credential = %name, actor = %by.actor(), "credential revoked");
        let receipt = self.fence(revision, remaining(timeout, begun.elapsed())).await?;
        Ok((changed.into(), receipt))
    }
}
