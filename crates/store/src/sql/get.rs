use keyward_domain::{Credential, Error, Key, KeyName, Member, MemberId, Project, ProjectId};
use keyward_token::Digest;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::convert::{to_credential, to_key, to_member, to_project};
use crate::entity::{credential, key, key_token, member, project, role_binding};
use crate::error::{TxError, from_driver};
use crate::store::Store;

impl Store {
    /// The project with this id.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn project(&self, id: &ProjectId) -> Result<Option<Project>, Error> {
        find_project(&self.reader(), id).await.map_err(from_driver)
    }

    /// The key with this name.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn key(&self, name: &KeyName) -> Result<Option<Key>, Error> {
        Ok(find_key(&self.reader(), name).await?)
    }

    /// The key that a token with this digest belongs to, superseded or not.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn key_by_token(&self, digest: &Digest) -> Result<Option<Key>, Error> {
        let token = key_token::Entity::find_by_id(digest.as_bytes().to_vec()).one(&self.reader()).await;
        let Some(token) = token.map_err(from_driver)? else { return Ok(None) };
        let key = key::Entity::find_by_id(token.key_uid).one(&self.reader()).await.map_err(from_driver)?;
        key.map(to_key).transpose()
    }

    /// The member with this id.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn member(&self, id: &MemberId) -> Result<Option<Member>, Error> {
        Ok(find_member(&self.reader(), id).await?)
    }

    /// The unrevoked credentials of a member, oldest first.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn credentials(&self, member: &MemberId) -> Result<Vec<Credential>, Error> {
        Ok(find_credentials(&self.reader(), member).await?)
    }

    /// The member that a credential with this digest belongs to; `None` if the credential is revoked.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn member_by_credential(&self, digest: &Digest) -> Result<Option<Member>, Error> {
        let found = credential::Entity::find_by_id(digest.as_bytes().to_vec()).one(&self.reader()).await;
        match found.map_err(from_driver)?.filter(|row| row.revoke_time.is_none()) {
            Some(row) => self.member(&MemberId::from_store(row.member_id)).await,
            None => Ok(None),
        }
    }
}

pub(crate) async fn find_project(db: &impl ConnectionTrait, id: &ProjectId) -> Result<Option<Project>, DbErr> {
    Ok(project::Entity::find_by_id(id.as_str()).one(db).await?.map(to_project))
}

pub(crate) async fn find_key(db: &impl ConnectionTrait, name: &KeyName) -> Result<Option<Key>, TxError> {
    Ok(by_name(name).one(db).await?.map(to_key).transpose()?)
}

/// The key with this name, its row locked until the transaction ends.
pub(crate) async fn lock_key(db: &impl ConnectionTrait, name: &KeyName) -> Result<Option<Key>, TxError> {
    Ok(by_name(name).lock_exclusive().one(db).await?.map(to_key).transpose()?)
}

pub(crate) async fn find_default_key(db: &impl ConnectionTrait, id: &ProjectId) -> Result<Option<Key>, TxError> {
    let query =
        key::Entity::find().filter(key::Column::ProjectId.eq(id.as_str())).filter(key::Column::DefaultKey.eq(true));
    Ok(query.one(db).await?.map(to_key).transpose()?)
}

pub(crate) async fn find_member(db: &impl ConnectionTrait, id: &MemberId) -> Result<Option<Member>, TxError> {
    let Some(row) = member::Entity::find_by_id(id.as_str()).one(db).await? else { return Ok(None) };
    let roles = role_binding::Entity::find().filter(role_binding::Column::MemberId.eq(id.as_str())).all(db).await?;
    Ok(Some(to_member(row, roles)?))
}

/// The unrevoked credentials of a member, oldest first.
pub(crate) async fn find_credentials(db: &impl ConnectionTrait, member: &MemberId) -> Result<Vec<Credential>, TxError> {
    let rows = credential::Entity::find()
        .filter(credential::Column::MemberId.eq(member.as_str()))
        .filter(credential::Column::RevokeTime.is_null())
        .order_by_asc(credential::Column::CreateTime)
        .order_by_asc(credential::Column::Digest)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(to_credential).collect::<Result<_, _>>()?)
}

fn by_name(name: &KeyName) -> Select<key::Entity> {
    key::Entity::find()
        .filter(key::Column::ProjectId.eq(name.project.as_str()))
        .filter(key::Column::KeyId.eq(name.key.as_str()))
}
