use keyward_domain::{Credential, Member};
use keyward_store::ChangedMember;

/// A member with its credentials.
pub(crate) struct MemberView {
    pub(crate) member: Member,
    /// The credentials that are not revoked.
    pub(crate) credentials: Vec<Credential>,
}

impl From<ChangedMember> for MemberView {
    fn from(changed: ChangedMember) -> Self {
        Self { member: changed.member, credentials: changed.credentials }
    }
}
