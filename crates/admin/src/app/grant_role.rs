use keyward_domain::{Error, MemberId, RoleBinding};

use crate::app::{App, MemberView, Receipt};
use crate::auth::Authorized;

impl App {
    /// Grants a member one more role. Admins read roles from the database on every call, so it applies at once.
    pub(crate) async fn grant_role(
        &self,
        by: &Authorized,
        id: &MemberId,
        role: &RoleBinding,
    ) -> Result<(MemberView, Receipt), Error> {
        let changed = self.store.grant_role(&by.call(None), id, role).await?;
        let revision = changed.revision;
        self.publisher.announce(revision);
        tracing::info!(%revision, member = %id, role = %role.role, actor = %by.actor(), "role granted");
        Ok((changed.into(), Receipt::at_once(revision)))
    }
}
