//! What the changes of one member have in common. They are rare, so each locks the head of the log before it reads: nothing
//! can change between its reads and its commit.

use keyward_domain::{Credential, Error, Member, MemberId, Revision, Role};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter};

use crate::entity::{credential, role_binding};
use crate::error::TxError;
use crate::sql::get::{find_credentials, find_member};

/// The result of a change of one member.
#[derive(Clone, Debug)]
pub struct ChangedMember {
    /// The member after the change.
    pub member: Member,
    /// Its unrevoked credentials, oldest first.
    pub credentials: Vec<Credential>,
    /// The revision of the change; if nothing had to change, a revision that is not older than the last change.
    pub revision: Revision,
}

impl ChangedMember {
    /// Reads the member within the transaction.
    pub(crate) async fn read(db: &impl ConnectionTrait, id: &MemberId, revision: Revision) -> Result<Self, TxError> {
        let member = existing(db, id).await?;
        let credentials = find_credentials(db, id).await?;
        Ok(Self { member, credentials, revision })
    }
}

/// The member with this id.
///
/// # Errors
/// `MEMBER_NOT_FOUND`.
pub(crate) async fn existing(db: &impl ConnectionTrait, id: &MemberId) -> Result<Member, TxError> {
    Ok(find_member(db, id).await?.ok_or_else(|| Error::member_not_found(id))?)
}

/// Fails with `LAST_OWNER` if no owner with an unrevoked credential is left. `lost` is the member that the change concerns.
pub(crate) async fn keep_an_owner(db: &impl ConnectionTrait, lost: &MemberId) -> Result<(), TxError> {
    if has_owner(db).await? { Ok(()) } else { Err(Error::last_owner(lost).into()) }
}

async fn has_owner(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let owners =
        role_binding::Entity::find().filter(role_binding::Column::Role.eq(Role::Owner.as_str())).all(db).await?;
    let ids = owners.into_iter().map(|row| row.member_id);
    let usable = credential::Entity::find()
        .filter(credential::Column::MemberId.is_in(ids))
        .filter(credential::Column::RevokeTime.is_null());
    Ok(usable.count(db).await? > 0)
}
