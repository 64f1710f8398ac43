use keyward_domain::{Change, Error, Member, MemberId, Role, RoleBinding};
use sea_orm::EntityTrait;

use crate::connect::Store;
use crate::entity::role_binding;
use crate::error::TxError;
use crate::sql::change_member::{ChangedMember, existing, keep_an_owner};
use crate::write::{Call, retry};

impl Store {
    /// Takes a role from a member; one that it has not changes nothing.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `LAST_OWNER`, `STORE_UNAVAILABLE`.
    pub async fn revoke_role(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, Error> {
        retry!(self.revoke_role_once(call, id, role))
    }

    async fn revoke_role_once(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, TxError> {
        let write = self.begin(call).await?;
        let place = write.take_place().await?;
        let before = existing(&write.tx, id).await?;
        if !before.roles.contains(role) {
            return ChangedMember::read(&write.tx, id, place.newest()).await;
        }
        let project = role.project.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = (id.to_string(), role.role.as_str().to_owned(), project);
        role_binding::Entity::delete_by_id(row).exec(&write.tx).await?;
        if role.role == Role::Owner {
            keep_an_owner(&write.tx, id).await?;
        }
        let changed = ChangedMember::read(&write.tx, id, place.revision).await?;
        let roles = before.roles.iter().filter(|own| *own != role).cloned().collect();
        let after = Member { roles, ..before };
        write.commit(place, &Change::RoleRevoked { after, role: role.clone() }, None).await?;
        Ok(changed)
    }
}
