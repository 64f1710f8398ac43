use keyward_domain::{Change, Error, Member, MemberId, RoleBinding};
use sea_orm::ActiveModelTrait;

use crate::connect::Store;
use crate::convert::{from_role, in_order};
use crate::sql::change_member::{ChangedMember, existing};
use crate::write::{Call, retry};

impl Store {
    /// Gives a member one more role; one that it has already changes nothing.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `MEMBER_LIMIT_REACHED`, `STORE_UNAVAILABLE`.
    pub async fn grant_role(&self, call: &Call, id: &MemberId, role: &RoleBinding) -> Result<ChangedMember, Error> {
        retry!(self.grant_role_once(call, id, role))
    }

    async fn grant_role_once(
        &self,
        call: &Call,
        id: &MemberId,
        role: &RoleBinding,
    ) -> Result<ChangedMember, crate::error::TxError> {
        let write = self.begin(call).await?;
        let place = write.take_place().await?;
        let before = existing(&write.tx, id).await?;
        if before.roles.contains(role) {
            return ChangedMember::read(&write.tx, id, place.newest()).await;
        }
        if before.roles.len() >= Member::MAX_ROLES {
            return Err(Error::member_limit_reached(id, Member::MAX_ROLES, "roles").into());
        }
        from_role(id, role).insert(&write.tx).await?;
        let roles = in_order(before.roles.iter().chain([role]).cloned().collect());
        let changed = ChangedMember::read(&write.tx, id, place.revision).await?;
        let after = Member { roles, ..before };
        write.commit(place, &Change::RoleGranted { after, role: role.clone() }, None).await?;
        Ok(changed)
    }
}
