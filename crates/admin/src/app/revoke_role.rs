use std::time::{Duration, Instant};

use keyward_domain::{Error, MemberId, RoleBinding};

use crate::app::fence::within;
use crate::app::{App, Caller, MemberView, Receipt, member};

impl App {
    /// Takes a role from a member. No admin acts by it once it is committed; the fence is for validators that run on it,
    /// whose sessions end with it: they may answer until their leases have run out.
    pub(crate) async fn revoke_role(
        &self,
        caller: &Caller,
        id: &MemberId,
        role: &RoleBinding,
        patience: Option<Duration>,
    ) -> Result<(MemberView, Receipt), Error> {
        let begun = Instant::now();
        member::may_change(caller)?;
        let changed = self.store.revoke_role(&member::to_change(caller, None), id, role).await?;
        let revision = changed.revision;
        tracing::info!(%revision, member = %id, role = %role.role, actor = %caller.id, "role revoked");
        let receipt = self.fence(revision, within(patience, begun.elapsed())).await?;
        Ok((changed.into(), receipt))
    }
}
