use keyward_domain::{Error, MemberId, RoleBinding};

use crate::app::{App, Caller, MemberView, Receipt, member};

impl App {
    /// Gives a member one more role. Roles are read from the database at each call, so it is in force at once.
    pub(crate) async fn grant_role(
        &self,
        caller: &Caller,
        id: &MemberId,
        role: &RoleBinding,
    ) -> Result<(MemberView, Receipt), Error> {
        member::may_change(caller)?;
        let changed = self.store.grant_role(&member::to_change(caller, None), id, role).await?;
        let revision = changed.revision;
        self.publisher.announce(revision);
        tracing::info!(%revision, member = %id, role = %role.role, actor = %caller.id, "role granted");
        Ok((changed.into(), Receipt::at_once(revision)))
    }
}
