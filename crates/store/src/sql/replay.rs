//! A secret that is returned again, to a retry of the request that issued it.
//!
//! The caller of these functions has found the remembered request. Each return is a change of its own in the log. A secret that
//! is no longer in use is not returned: the retry may come up to a day after the first answer.

use keyward_domain::{Change, Issuance, Key, KeyName, KeyState, MemberId, Revision};
use keyward_token::Digest;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::connection::Transaction;
use crate::entity::{credential, key_token};
use crate::error::{TxError, corrupt};
use crate::secret::{IssuedSecret, SealedSecret};
use crate::sql::get::find_key;
use crate::sql::withheld::is_withheld;
use crate::write::{NextEntry, Write};

/// The generation of the token that a key is created with.
pub(crate) const FIRST: u32 = 1;

/// Returns again the token that the key `name` was created with, and logs that. Not if the key is deactivated or withheld, or has
/// a newer token. Returns the key in its current state.
pub(crate) async fn replay_token(
    write: Write<'_>,
    name: &KeyName,
    method: Issuance,
    sealed: Option<SealedSecret>,
) -> Result<(Key, IssuedSecret), TxError> {
    let gone = || corrupt("the key of a remembered request is gone");
    let Some(sealed) = sealed else {
        let key = find_key(&write.tx, name).await?.ok_or_else(gone)?;
        return Ok((key, IssuedSecret::NotKept));
    };
    // Changes of keys take the lock on the head, so the key is read as it is at the revision of the entry.
    let next = write.next_entry().await?;
    let key = find_key(&write.tx, name).await?.ok_or_else(gone)?;
    let is_in_use = key.state == KeyState::Active
        && has_first_token(&write.tx, &key).await?
        && !is_withheld(&write.tx, &key, next.time).await?;
    if !is_in_use {
        return Ok((key, IssuedSecret::Withheld));
    }
    write.commit_entry(next, &Change::TokenReplayed { name: name.clone(), generation: FIRST, method }).await?;
    Ok((key, IssuedSecret::Replayed(sealed)))
}

/// Returns again the credential with this digest, and logs that. Not if the credential is revoked.
pub(crate) async fn replay_credential(
    write: Write<'_>,
    next: NextEntry,
    member: &MemberId,
    credential: Digest,
    method: Issuance,
    sealed: SealedSecret,
) -> Result<IssuedSecret, TxError> {
    let row = credential::Entity::find_by_id(credential.as_bytes().to_vec()).one(&write.tx).await?;
    if row.is_none_or(|row| row.revoke_time.is_some() || row.member_id != member.as_str()) {
        return Ok(IssuedSecret::Withheld);
    }
    write.commit_entry(next, &Change::CredentialReplayed { member: member.clone(), credential, method }).await?;
    Ok(IssuedSecret::Replayed(sealed))
}

/// The digest of the credential that the change at this revision issued.
pub(crate) async fn issued_credential(write: &Write<'_>, revision: Revision) -> Result<Digest, TxError> {
    match write.change_at(revision).await? {
        Change::CredentialIssued { credential, .. } | Change::MemberCreated { credential, .. } => Ok(credential),
        _ => Err(corrupt(format!("revision {revision} issued no credential")).into()),
    }
}

/// Returns `true` if the token that the key was created with has no end.
async fn has_first_token(tx: &Transaction, key: &Key) -> Result<bool, TxError> {
    let first = key_token::Entity::find()
        .filter(key_token::Column::KeyUid.eq(Uuid::from(key.uid)))
        .filter(key_token::Column::Generation.eq(FIRST))
        .one(tx)
        .await?;
    Ok(first.is_some_and(|token| token.not_after.is_none()))
}
