use keyward_domain::{Change, Error, Member, MemberDraft, MemberId, Revision, Timestamp};
use sea_orm::ActiveModelTrait;
use sea_orm::ActiveValue::Set;

use crate::connect::Store;
use crate::connection::Transaction;
use crate::convert::{from_member, from_role, in_order};
use crate::entity::credential;
use crate::error::{TxError, corrupt};
use crate::sql::get::find_member;
use crate::write::{Call, Replay, SealedSecret, SecretRecord, Write, retry};

/// What a creation left behind.
#[derive(Clone, Debug)]
pub struct CreatedMember {
    /// The member.
    pub member: Member,
    /// The revision that created it.
    pub revision: Revision,
    /// Set when the request was a retry: the credential that the first answer carried, if it could be sealed.
    pub replayed: Option<Option<SealedSecret>>,
}

impl Store {
    /// Creates a member with its roles and one credential.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_ID_TAKEN`, `REQUEST_ID_REUSED`, `STORE_UNAVAILABLE`.
    pub async fn create_member(
        &self,
        call: &Call,
        draft: &MemberDraft,
        mint: &SecretRecord,
    ) -> Result<CreatedMember, Error> {
        retry!(self.create_member_once(call, draft, mint))
    }

    async fn create_member_once(
        &self,
        call: &Call,
        draft: &MemberDraft,
        mint: &SecretRecord,
    ) -> Result<CreatedMember, TxError> {
        let write = self.begin(call).await?;
        let taken = find_member(&write.tx, &draft.id).await?.is_some();
        if let Some(replay) = write.replay().await? {
            return replayed(&write, draft, replay).await;
        }
        if taken {
            return Err(Error::member_id_taken(&draft.id).into());
        }
        let place = write.take_place().await?;
        let member = new_member(draft, mint, Some(write.actor().clone()), place.time, place.revision);
        insert_member(&write.tx, &member, mint).await?;
        let created = CreatedMember { member: member.clone(), revision: place.revision, replayed: None };
        let change = creation(member, mint);
        write.commit(place, &change, mint.sealed.as_ref()).await?;
        Ok(created)
    }
}

async fn replayed(write: &Write<'_>, draft: &MemberDraft, replay: Replay) -> Result<CreatedMember, TxError> {
    let member = find_member(&write.tx, &draft.id).await?.ok_or_else(|| corrupt("remembered member is gone"))?;
    Ok(CreatedMember { member, revision: replay.revision, replayed: Some(replay.sealed) })
}

/// A member as it is at its creation.
pub(crate) fn new_member(
    draft: &MemberDraft,
    mint: &SecretRecord,
    creator: Option<MemberId>,
    now: Timestamp,
    revision: Revision,
) -> Member {
    Member {
        id: draft.id.clone(),
        uid: mint.uid,
        display_name: draft.display_name.clone(),
        roles: in_order(draft.roles.clone()),
        creator,
        create_time: now,
        create_revision: revision,
    }
}

/// What the log says of it.
pub(crate) const fn creation(member: Member, mint: &SecretRecord) -> Change {
    Change::MemberCreated { member, credential: mint.digest, digest_key_id: Some(mint.digest_key_id) }
}

/// Writes a member's row, its roles' and its first credential's.
pub(crate) async fn insert_member(tx: &Transaction, member: &Member, mint: &SecretRecord) -> Result<(), TxError> {
    from_member(member).insert(tx).await?;
    for binding in &member.roles {
        from_role(&member.id, binding).insert(tx).await?;
    }
    insert_credential(tx, &member.id, mint, member.create_time).await
}

/// Writes a credential's row.
pub(crate) async fn insert_credential(
    tx: &Transaction,
    member: &MemberId,
    mint: &SecretRecord,
    time: Timestamp,
) -> Result<(), TxError> {
    let row = credential::ActiveModel {
        digest: Set(mint.digest.as_bytes().to_vec()),
        digest_key_id: Set(i32::try_from(mint.digest_key_id).map_err(corrupt)?),
        member_id: Set(member.to_string()),
        create_time: Set(time.as_micros()),
        revoke_time: Set(None),
    };
    row.insert(tx).await?;
    Ok(())
}
