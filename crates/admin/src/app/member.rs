use keyward_domain::{Credential, Error, Member, Permission};
use keyward_store::{Call, ChangedMember, RequestStamp};

use crate::app::{Caller, visible};

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
pub(super) fn to_change(caller: &Caller, request: Option<RequestStamp>) -> Call {
    caller.to(Permission::MemberUpdate, request)
}

/// Lets a caller change members.
///
/// # Errors
/// `PERMISSION_DENIED`.
pub(super) fn may_change(caller: &Caller) -> Result<(), Error> {
    visible::on_platform(caller, Permission::MemberUpdate)
}
