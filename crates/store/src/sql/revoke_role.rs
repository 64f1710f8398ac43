use keyward_domain::{Change, Error, Member, MemberId, Role, RoleBinding};
use sea_orm::EntityTrait;

use crate::entity::role_binding;
use crate::error::TxError;
use crate::retry::retry;
use crate::sql::change_member::{ChangedMember, existing, keep_an_owner};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Revokes a role of a member. Changes nothing if the member does not have the role.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `LAST_OWNER`, `STORE_UNAVAILABLE`.
    pub async fn revoke_role(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, Error> {
        retry(|| self.revoke_role_once(call, id, role)).await
    }

    async fn revoke_role_once(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, TxError> {
        let write = self.begin(call).await?;
        let next = write.next_entry().await?;
        let before = existing(&write.tx, id).await?;
        if !before.roles.contains(role) {
            return ChangedMember::read(&write.tx, id, next.head.revision).await;
        }
        let project = role.project.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = (id.to_string(), role.role.as_str().to_owned(), project);
        role_binding::Entity::delete_by_id(row).exec(&write.tx).await?;
        if role.role == Role::Owner {
            keep_an_owner(&write.tx, id).await?;
        }
        let changed = ChangedMember::read(&write.tx, id, next.revision).await?;
        let roles = before.roles.iter().filter(|own| *own != role).cloned().collect();
        let after = Member { roles, ..before };
        write.commit(next, &Change::RoleRevoked { after, role: role.clone() }, None).await?;
        Ok(changed)
    }
}
