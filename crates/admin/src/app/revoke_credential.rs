use std::time::{Duration, Instant};

use keyward_domain::{CredentialName, Error};

use crate::app::fence::within;
use crate::app::{App, Caller, MemberView, Receipt, member};

impl App {
    /// Revokes a credential. No admin knows it once that is committed; the fence is for validators that run on it.
    pub(crate) async fn revoke_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        patience: Option<Duration>,
    ) -> Result<(MemberView, Receipt), Error> {
        let begun = Instant::now();
        member::may_change(caller)?;
        let changed = self.store.revoke_credential(&member::to_change(caller, None), name).await?;
        let revision = changed.revision;
        tracing::info!(%revision, credential = %name, actor = %caller.id, "credential revoked");
        let receipt = self.fence(revision, within(patience, begun.elapsed())).await?;
        Ok((changed.into(), receipt))
    }
}
