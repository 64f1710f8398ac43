use std::time::{Duration, Instant};

use keyward_domain::{Error, MemberId, RoleBinding};

use crate::app::fence::remaining;
use crate::app::{App, MemberView, Receipt};
use crate::auth::Authorized;

impl App {
    /// Revokes a role of a member. Admins refuse its calls from the commit on. The fence waits for validators whose sessions
    /// depend on the role: their sessions end, and they may answer until their leases have expired.
    pub(crate) async fn revoke_role(
        &self,
        by: &Authorized,
        id: &MemberId,
        role: &RoleBinding,
        timeout: Option<Duration>,
    ) -> Result<(MemberView, Receipt), Error> {
        let begun = Instant::now();
        let changed = self.store.revoke_role(&by.call(None), id, role).await?;
        let revision = changed.revision;
        tracing::info!(%revision, member = %id, role = %role.role, actor = %by.actor(), "role revoked");
        let receipt = self.fence(revision, remaining(timeout, begun.elapsed())).await?;
        Ok((changed.into(), receipt))
    }
}
