//! What the changes of one member share. Such changes are rare, so each takes its place in the log first: whatever it
//! reads then is what was committed last, and nothing can come in between.

use keyward_domain::{Credential, Error, Member, MemberId, Revision, Role};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter};

use crate::entity::{credential, role_binding};
use crate::error::TxError;
use crate::sql::get::{find_credentials, find_member};

/// What a change of one member left behind.
#[derive(Clone, Debug)]
pub struct ChangedMember {
    /// The member as it is now.
    pub member: Member,
    /// Its credentials that are not revoked, oldest first.
    pub credentials: Vec<Credential>,
    /// The revision that did it; when it was done before: one that is not older.
    pub revision: Revision,
}

impl ChangedMember {
    /// The member as the transaction has left it.
    pub(crate) async fn read(db: &impl ConnectionTrait, id: &MemberId, revision: Revision) -> Result<Self, TxError> {
        let member = existing(db, id).await?;
        let credentials = find_credentials(db, id).await?;
        Ok(Self { member, credentials, revision })
    }
}

/// The member of that id.
pub(crate) async fn existing(db: &impl ConnectionTrait, id: &MemberId) -> Result<Member, TxError> {
    Ok(find_member(db, id).await?.ok_or_else(|| Error::member_not_found(id))?)
}

/// Refuses what has left the platform without an owner that can prove itself. `lost`: who would be the last.
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
