use std::fmt::{Display, Formatter};

use keyward_token::Digest;

use crate::error::Error;
use crate::id::MemberId;
use crate::time::Timestamp;

/// How many bytes of a digest a credential goes by.
const LEN: usize = 8;

/// What a credential goes by: a fingerprint, the first eight bytes of its digest. The digest is keyed, so it tells
/// nothing of the credential; and it is not enough of the digest to look a credential up by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CredentialId([u8; LEN]);

impl CredentialId {
    /// The fingerprint of the credential with this digest.
    pub fn of(digest: &Digest) -> Self {
        let mut id = [0; LEN];
        id.copy_from_slice(&digest.as_bytes()[..LEN]);
        Self(id)
    }

    /// The first and the last digest that goes by it.
    pub fn digests(&self) -> [[u8; 32]; 2] {
        [0x00, 0xff].map(|fill| {
            let mut digest = [fill; 32];
            digest[..LEN].copy_from_slice(&self.0);
            digest
        })
    }
}

impl Display for CredentialId {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A credential's resource name, `members/alice/credentials/3f8a2c6e2b1d4b7e`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CredentialName {
    /// Whose it is.
    pub member: MemberId,
    /// Which of its credentials.
    pub id: CredentialId,
}

impl CredentialName {
    /// Checks a name that came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the form.
    pub fn parse(field: &str, name: &str) -> Result<Self, Error> {
        let form = "of the form members/{member_id}/credentials/{16 hexadecimal digits}";
        let (member, id) = name.split_once("/credentials/").ok_or_else(|| Error::field(field, form))?;
        let member = MemberId::parse_name(field, member)?;
        let mut bytes = [0; LEN];
        // Names are compared as text elsewhere, so there is one way to write each.
        if id.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(id, &mut bytes).is_err() {
            return Err(Error::field(field, form));
        }
        Ok(Self { member, id: CredentialId(bytes) })
    }
}

impl Display for CredentialName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/credentials/{}", self.member.name(), self.id)
    }
}

/// What a member proves itself with, as everybody but the member knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// Its resource name.
    pub name: CredentialName,
    /// When it was made.
    pub create_time: Timestamp,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_credential_has_one_name_and_it_reads_back() {
        let id = CredentialId::of(&Digest::from_bytes([0xab; 32]));
        let name = CredentialName { member: MemberId::root(), id };
        assert_eq!(name.to_string(), "members/root/credentials/abababababababab");
        assert_eq!(CredentialName::parse("name", &name.to_string()).unwrap(), name);
        for bad in ["", "members/root", "members/root/credentials/", "members/root/credentials/ABABABABABABABAB"] {
            assert!(CredentialName::parse("name", bad).is_err(), "{bad}");
        }
    }
}
