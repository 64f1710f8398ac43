use keyward_domain::{Change, CredentialName, Error, Role};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::convert::to_digest;
use crate::entity::credential;
use crate::error::TxError;
use crate::retry::retry;
use crate::sql::change_member::{ChangedMember, existing, keep_an_owner};
use crate::store::Store;
use crate::write::Call;

impl Store {
    /// Revokes a credential. Changes nothing if it is revoked already.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `CREDENTIAL_NOT_FOUND`, `LAST_OWNER`, `STORE_UNAVAILABLE`.
    pub async fn revoke_credential(&self, call: &Call, name: &CredentialName) -> Result<ChangedMember, Error> {
        retry(|| self.revoke_credential_once(call, name)).await
    }

    async fn revoke_credential_once(&self, call: &Call, name: &CredentialName) -> Result<ChangedMember, TxError> {
        let write = self.begin(call).await?;
        let next = write.next_entry().await?;
        let member = existing(&write.tx, &name.member).await?;
        let row = find_by_name(&write.tx, name).await?.ok_or_else(|| Error::credential_not_found(name))?;
        if row.revoke_time.is_some() {
            return ChangedMember::read(&write.tx, &member.id, next.head.revision).await;
        }
        let digest = to_digest(&row.digest)?;
        let mut row: credential::ActiveModel = row.into();
        row.revoke_time = Set(Some(next.time.as_micros()));
        row.update(&write.tx).await?;
        if member.roles.iter().any(|binding| binding.role == Role::Owner) {
            keep_an_owner(&write.tx, &member.id).await?;
        }
        let changed = ChangedMember::read(&write.tx, &member.id, next.revision).await?;
        let change = Change::CredentialRevoked { member: member.id, credential: digest };
        write.commit(next, &change, None).await?;
        Ok(changed)
    }
}

/// The credential with this name, revoked or not. The id in a name is the beginning of the digest.
async fn find_by_name(db: &impl ConnectionTrait, name: &CredentialName) -> Result<Option<credential::Model>, TxError> {
    let [first, last] = name.id.digests();
    let found = credential::Entity::find()
        .filter(credential::Column::Digest.between(first.to_vec(), last.to_vec()))
        .filter(credential::Column::MemberId.eq(name.member.as_str()))
        .one(db)
        .await?;
    Ok(found)
}
