use keyward_domain::{Credential, Error, Member, Permission};
use keyward_store::{Call, ChangedMember, RequestStamp};

use crate::app::visible;

/// A member as whoever manages members sees it.
pub(crate) struct MemberView {
    pub(crate) member: Member,
    /// Those that are not revoked.
    pub(crate) credentials: Vec<Credential>,
}

impl From<ChangedMember> for MemberView {
    fn from(changed: ChangedMember) -> Self {
        Self { member: changed.member, credentials: changed.credentials }
    }
}

/// A call that changes a member.
pub(super) fn to_change(caller: &Member, request: Option<RequestStamp>) -> Call {
    Call { actor: caller.id.clone(), permission: Permission::MemberUpdate, scope: None, request }
}

/// Lets a caller change members.
///
/// # Errors
/// `PERMISSION_DENIED`.
pub(super) fn may_change(caller: &Member) -> Result<(), Error> {
    visible::on_platform(caller, Permission::MemberUpdate)
}
