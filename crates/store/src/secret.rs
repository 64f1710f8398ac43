//! What is stored of tokens and credentials. The secrets themselves never reach the store.

use keyward_domain::{Error, Uid};
use keyward_token::Digest;

use crate::error::corrupt;

/// What is stored of a new token or credential.
#[derive(Clone, Debug)]
pub struct SecretRecord {
    /// The uid of the key or member that it belongs to; `sealed` is bound to it.
    pub uid: Uid,
    /// The digest by which it is looked up.
    pub digest: Digest,
    /// The id of the digest key that made the digest.
    pub digest_key_id: u32,
    /// Its last four characters.
    pub last4: String,
    /// The secret, sealed; `None` without a sealing key.
    pub sealed: Option<SealedSecret>,
}

impl SecretRecord {
    /// The column `digest_key_id`.
    pub(crate) fn digest_key_column(&self) -> Result<i32, Error> {
        i32::try_from(self.digest_key_id).map_err(corrupt)
    }
}

/// A token or credential, encrypted. Only a holder of the keyring can open it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSecret {
    /// The id of the sealing key.
    pub key_id: u32,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

impl SealedSecret {
    /// From the columns `sealing_key_id` and `sealed`; `None` if either is NULL.
    pub(crate) fn from_columns(key_id: Option<i32>, bytes: Option<Vec<u8>>) -> Result<Option<Self>, Error> {
        let (Some(key_id), Some(bytes)) = (key_id, bytes) else { return Ok(None) };
        Ok(Some(Self { key_id: u32::try_from(key_id).map_err(corrupt)?, bytes }))
    }

    /// The columns `sealing_key_id` and `sealed`.
    pub(crate) fn to_columns(sealed: Option<&Self>) -> Result<(Option<i32>, Option<Vec<u8>>), Error> {
        let Some(sealed) = sealed else { return Ok((None, None)) };
        Ok((Some(i32::try_from(sealed.key_id).map_err(corrupt)?), Some(sealed.bytes.clone())))
    }
}

/// The secret in the answer to a request that creates one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IssuedSecret {
    /// This call made the change: the answer has the new secret, whose record the caller passed in.
    New,
    /// The request is a retry: the answer has the secret of the first answer. The log has an entry for that.
    Replayed(SealedSecret),
    /// The request is a retry, and there is no sealed secret of the first answer: the keyring had no sealing key, or a version
    /// before 2026-11-28 remembered the request, in a row without a MAC. The answer has no secret.
    NotKept,
    /// The request is a retry, and the secret of the first answer is no longer in use: the key is deactivated or has a newer
    /// token, or the credential is revoked. The answer has no secret.
    Withheld,
}
