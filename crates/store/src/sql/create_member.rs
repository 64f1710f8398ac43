use keyward_domain::{Change, Error, Issuance, Member, MemberDraft, MemberId, Revision, Timestamp};
use sea_orm::ActiveModelTrait;
use sea_orm::ActiveValue::Set;

use crate::connection::Transaction;
use crate::convert::{from_member, from_role, in_order};
use crate::entity::credential;
use crate::error::{TxError, corrupt};
use crate::retry::retry;
use crate::secret::{IssuedSecret, SecretRecord};
use crate::sql::get::find_member;
use crate::sql::replay::{issued_credential, replay_credential};
use crate::store::Store;
use crate::write::{Call, Replay, Write};

/// The result of [`Store::create_member`].
#[derive(Clone, Debug)]
pub struct CreatedMember {
    /// The member.
    pub member: Member,
    /// The revision that created the member.
    pub revision: Revision,
    /// The credential in the answer.
    pub secret: IssuedSecret,
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
        secret: &SecretRecord,
    ) -> Result<CreatedMember, Error> {
        retry(|| self.create_member_once(call, draft, secret)).await
    }

    async fn create_member_once(
        &self,
        call: &Call,
        draft: &MemberDraft,
        secret: &SecretRecord,
    ) -> Result<CreatedMember, TxError> {
        let write = self.begin(call).await?;
        let taken = find_member(&write.tx, &draft.id).await?.is_some();
        if let Some(replay) = write.replay(Some(&draft.id.name())).await? {
            return replayed(write, draft, replay).await;
        }
        if taken {
            return Err(Error::member_id_taken(&draft.id).into());
        }
        let next = write.next_entry().await?;
        let member = new_member(draft, secret, Some(write.actor().clone()), next.time, next.revision);
        insert_member(&write.tx, &member, secret).await?;
        let created = CreatedMember { member: member.clone(), revision: next.revision, secret: IssuedSecret::New };
        let change = creation(member, secret);
        write.commit(next, &change, secret.sealed.as_ref()).await?;
        Ok(created)
    }
}

async fn replayed(write: Write<'_>, draft: &MemberDraft, replay: Replay) -> Result<CreatedMember, TxError> {
    let member = find_member(&write.tx, &draft.id)
        .await?
        .ok_or_else(|| corrupt("the member of a remembered request is gone"))?;
    let secret = match replay.sealed {
        None => IssuedSecret::NotKept,
        Some(sealed) => {
            let first = issued_credential(&write, replay.revision).await?;
            let next = write.next_entry().await?;
            replay_credential(write, next, &draft.id, first, Issuance::CreateMember, sealed).await?
        }
    };
    Ok(CreatedMember { member, revision: replay.revision, secret })
}

/// The member that a draft describes, in its state after creation.
pub(crate) fn new_member(
    draft: &MemberDraft,
    secret: &SecretRecord,
    creator: Option<MemberId>,
    now: Timestamp,
    revision: Revision,
) -> Member {
    Member {
        id: draft.id.clone(),
        uid: secret.uid,
        display_name: draft.display_name.clone(),
        roles: in_order(draft.roles.clone()),
        creator,
        create_time: now,
        create_revision: revision,
    }
}

/// The log entry for a new member.
pub(crate) const fn creation(member: Member, secret: &SecretRecord) -> Change {
    Change::MemberCreated { member, credential: secret.digest, digest_key_id: Some(secret.digest_key_id) }
}

/// Inserts the rows of a member, of its roles, and of its first credential.
pub(crate) async fn insert_member(tx: &Transaction, member: &Member, secret: &SecretRecord) -> Result<(), TxError> {
    from_member(member).insert(tx).await?;
    for binding in &member.roles {
        from_role(&member.id, binding).insert(tx).await?;
    }
    insert_credential(tx, &member.id, secret, member.create_time).await
}

/// Inserts the row of a credential.
pub(crate) async fn insert_credential(
    tx: &Transaction,
    member: &MemberId,
    secret: &SecretRecord,
    time: Timestamp,
) -> Result<(), TxError> {
    let row = credential::ActiveModel {
        digest: Set(secret.digest.as_bytes().to_vec()),
        digest_key_id: Set(secret.digest_key_column()?),
        member_id: Set(member.to_string()),
        create_time: Set(time.as_micros()),
        revoke_time: Set(None),
    };
    row.insert(tx).await?;
    Ok(())
}
