use keyward_domain::{Change, Error, Member, MemberId, RoleBinding};
use sea_orm::ActiveModelTrait;

use crate::convert::{from_role, in_order};
use crate::error::TxError;
use crate::retry::retry;
use crate::sql::change_member::{ChangedMember, existing};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Grants a role to a member. Changes nothing if the member has the role already.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `MEMBER_LIMIT_REACHED`, `STORE_UNAVAILABLE`.
    pub async fn grant_role(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, Error> {
        retry(|| self.grant_role_once(call, id, role)).await
    }

    async fn grant_role_once(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, TxError> {
        let write = self.begin(call).await?;
        let next = write.next_entry().await?;
        let before = existing(&write.tx, id).await?;
        if before.roles.contains(role) {
            return ChangedMember::read(&write.tx, id, next.head.revision).await;
        }
        if before.roles.len() >= Member::MAX_ROLES {
            return Err(Error::member_limit_reached(id, Member::MAX_ROLES, "roles").into());
        }
        from_role(id, role).insert(&write.tx).await?;
        let roles = in_order(before.roles.iter().chain([role]).cloned().collect());
        let changed = ChangedMember::read(&write.tx, id, next.revision).await?;
        let after = Member { roles, ..before };
        write.commit(next, &Change::RoleGranted { after, role: role.clone() }, None).await?;
        Ok(changed)
    }
}
