use std::fmt::{Display, Formatter};

use keyward_token::Digest;

use crate::id::MemberId;
use crate::rule::Rule;
use crate::time::Timestamp;

/// Length of a credential's id, in bytes.
const LEN: usize = 8;

/// A credential's id: the first eight bytes of its digest. The digest is keyed, so the id reveals nothing of the credential,
/// and eight bytes of a digest do not authenticate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CredentialId([u8; LEN]);

impl CredentialId {
    /// The id of the credential with this digest.
    pub fn of(digest: &Digest) -> Self {
        let mut id = [0; LEN];
        id.copy_from_slice(&digest.as_bytes()[..LEN]);
        Self(id)
    }

    /// The lowest and the highest digest with this id: the bounds of a range query.
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

/// A credential's resource name, such as `members/alice/credentials/3f8a2c6e2b1d4b7e`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CredentialName {
    /// The member that the credential belongs to.
    pub member: MemberId,
    /// Its id among the member's credentials.
    pub id: CredentialId,
}

impl CredentialName {
    /// Parses a resource name from outside.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn parse(name: &str) -> Result<Self, Rule> {
        const FORM: &str = "of the form members/{member_id}/credentials/{16 hexadecimal digits}";
        let (member, id) = name.split_once("/credentials/").ok_or(FORM)?;
        let member = MemberId::parse_name(member)?;
        let mut bytes = [0; LEN];
        // Callers compare names as text, so there must be one spelling of each.
        if id.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(id, &mut bytes).is_err() {
            return Err(FORM.into());
        }
        Ok(Self { member, id: CredentialId(bytes) })
    }
}

impl Display for CredentialName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/credentials/{}", self.member.name(), self.id)
    }
}

/// A credential of a member, without the secret.
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
        assert_eq!(CredentialName::parse(&name.to_string()).unwrap(), name);
        for bad in ["", "members/root", "members/root/credentials/", "members/root/credentials/ABABABABABABABAB"] {
            assert!(CredentialName::parse(bad).is_err(), "{bad}");
        }
    }
}
