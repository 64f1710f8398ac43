use keyward_domain::{Change, CredentialId, CredentialName, Error, Issuance, Member, MemberId};

use crate::error::TxError;
use crate::retry::retry;
use crate::secret::{IssuedSecret, SecretRecord};
use crate::sql::change_member::{ChangedMember, existing};
use crate::sql::create_member::insert_credential;
use crate::sql::get::find_credentials;
use crate::sql::replay::{issued_credential, replay_credential};
use crate::store::Store;
use crate::write::{Call, NextEntry, Replay, Write};

/// The result of [`Store::issue_credential`].
#[derive(Clone, Debug)]
pub struct IssuedCredential {
    /// The member.
    pub changed: ChangedMember,
    /// The new credential's name.
    pub name: CredentialName,
    /// The credential in the answer.
    pub secret: IssuedSecret,
}

impl Store {
    /// Adds a credential to a member. `secret` is sealed for the member's uid.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `MEMBER_NOT_FOUND`, `MEMBER_LIMIT_REACHED`, `REQUEST_ID_REUSED`, `STORE_UNAVAILABLE`.
    pub async fn issue_credential(
        &self,
        call: &Call,
        id: &MemberId,
        secret: &SecretRecord,
    ) -> Result<IssuedCredential, Error> {
        retry(|| self.issue_credential_once(call, id, secret)).await
    }

    async fn issue_credential_once(
        &self,
        call: &Call,
        id: &MemberId,
        secret: &SecretRecord,
    ) -> Result<IssuedCredential, TxError> {
        let write = self.begin(call).await?;
        let next = write.next_entry().await?;
        let member = existing(&write.tx, id).await?;
        if let Some(replay) = write.replay(Some(&id.name())).await? {
            return replayed(write, next, member, replay).await;
        }
        if find_credentials(&write.tx, id).await?.len() >= Member::MAX_CREDENTIALS {
            return Err(Error::member_limit_reached(id, Member::MAX_CREDENTIALS, "credentials").into());
        }
        insert_credential(&write.tx, id, secret, next.time).await?;
        let changed = ChangedMember::read(&write.tx, id, next.revision).await?;
        let change = Change::CredentialIssued {
            member: id.clone(),
            credential: secret.digest,
            digest_key_id: secret.digest_key_id,
        };
        write.commit(next, &change, secret.sealed.as_ref()).await?;
        let name = CredentialName { member: id.clone(), id: CredentialId::of(&secret.digest) };
        Ok(IssuedCredential { changed, name, secret: IssuedSecret::New })
    }
}

/// The answer to the first request. The log has the digest of the credential that it issued.
async fn replayed(
    write: Write<'_>,
    next: NextEntry,
    member: Member,
    replay: Replay,
) -> Result<IssuedCredential, TxError> {
    let credential = issued_credential(&write, replay.revision).await?;
    let name = CredentialName { member: member.id.clone(), id: CredentialId::of(&credential) };
    let changed = ChangedMember::read(&write.tx, &member.id, replay.revision).await?;
    let secret = match replay.sealed {
        None => IssuedSecret::NotKept,
        Some(sealed) => {
            replay_credential(write, next, &member.id, credential, Issuance::IssueCredential, sealed).await?
        }
    };
    Ok(IssuedCredential { changed, name, secret })
}
