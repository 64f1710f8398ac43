//! The right that each kind of change requires, as the audit of the change log checks it.

use crate::change::Change;
use crate::id::ProjectId;
use crate::member::Permission;

/// What an entry of the change log requires of the member that made the change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequiredRight<'a> {
    /// Only `members/_platform` makes the change, in transactions that no member calls.
    Platform,
    /// The member needs this permission.
    Permission {
        /// The permission.
        permission: Permission,
        /// The project on which the permission is needed; `None` for the deployment.
        project: Option<&'a ProjectId>,
    },
}

impl Change {
    /// The right that the change requires. It equals the permission that the method of the admin API requires.
    ///
    /// The audit applies this to every entry of a log, also to entries of earlier versions. So a version that requires more
    /// for a method must keep accepting what older entries were allowed to do.
    pub fn required_right(&self) -> RequiredRight<'_> {
        let permission = match self {
            Self::HistoryForked { .. } | Self::TokensWithheld { .. } => return RequiredRight::Platform,
            Self::ProjectCreated { .. } => return on_deployment(Permission::ProjectCreate),
            Self::MemberCreated { .. } => return on_deployment(Permission::MemberCreate),
            Self::CredentialReplayed { method, .. } => return on_deployment(method.permission()),
            Self::TokenReplayed { method, .. } if !method.is_on_project() => return on_deployment(method.permission()),
            Self::TokenReplayed { method, .. } => method.permission(),
            // A role on a project is granted on the deployment as well.
            Self::RoleGranted { .. }
            | Self::RoleRevoked { .. }
            | Self::CredentialIssued { .. }
            | Self::CredentialRevoked { .. } => return on_deployment(Permission::MemberUpdate),
            Self::EpochAccepted { .. } => return on_deployment(Permission::EpochAccept),
            Self::KeyCreated { .. } => Permission::KeyCreate,
            Self::KeyUpdated { .. } => Permission::KeyUpdate,
            Self::KeyRotated { .. } => Permission::KeyRotate,
            Self::TokenRotated { .. } => Permission::DefaultKeyRotate,
            Self::TokenRevealed { .. } => Permission::KeyReveal,
            Self::KeyActivated { .. } => Permission::KeyActivate,
            Self::KeyDeactivated { .. } => Permission::KeyDeactivate,
        };
        RequiredRight::Permission { permission, project: self.project() }
    }
}

const fn on_deployment(permission: Permission) -> RequiredRight<'static> {
    RequiredRight::Permission { permission, project: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, KeyName, MemberId};
    use crate::log::{Epoch, Revision};
    use crate::member::{Role, RoleBinding};
    use crate::{Member, Timestamp, Uid};

    fn requires(permission: Permission, project: Option<&ProjectId>) -> RequiredRight<'_> {
        RequiredRight::Permission { permission, project }
    }

    #[test]
    fn a_change_of_a_key_requires_the_right_on_its_project() {
        let project = ProjectId::from_store("6666".to_owned());
        let name = KeyName { project: project.clone(), key: KeyId::from_store("a".to_owned()) };
        let change = Change::TokenRevealed { name, generation: 1 };
        assert_eq!(change.required_right(), requires(Permission::KeyReveal, Some(&project)));
    }

    #[test]
    fn a_role_on_a_project_is_granted_by_a_right_on_the_deployment() {
        let role = RoleBinding { role: Role::Editor, project: Some(ProjectId::from_store("6666".to_owned())) };
        let after = Member {
            id: MemberId::root(),
            uid: Uid::generate(),
            display_name: String::new(),
            roles: vec![role.clone()],
            creator: None,
            create_time: Timestamp::from_micros(1),
            create_revision: Revision(1),
        };
        let change = Change::RoleGranted { after, role };
        assert_eq!(change.required_right(), requires(Permission::MemberUpdate, None));
    }

    #[test]
    fn only_the_platform_begins_an_epoch_and_only_a_member_accepts_it() {
        let epoch = Epoch::generate();
        let forked = Change::HistoryForked { former: epoch, lost: epoch, known: Revision(1), epoch };
        assert_eq!(forked.required_right(), RequiredRight::Platform);
        let withheld = Change::TokensWithheld { epoch, keys: Vec::new(), tokens: Vec::new() };
        assert_eq!(withheld.required_right(), RequiredRight::Platform);
        let accepted = Change::EpochAccepted { epoch };
        assert_eq!(accepted.required_right(), requires(Permission::EpochAccept, None));
    }
}
