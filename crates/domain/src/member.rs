use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{MemberId, ProjectId, Uid};
use crate::log::Revision;
use crate::text::check_text;
use crate::time::Timestamp;

/// What a member may be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// On a project: look.
    Viewer,
    /// On a project: look and change.
    Editor,
    /// On the platform: look everywhere.
    Support,
    /// On the platform: everything but support's own methods.
    Owner,
    /// On the platform: Sync only.
    Validator,
    /// On the platform: admins among themselves only.
    AdminNode,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Editor, Self::Support, Self::Owner, Self::Validator, Self::AdminNode];

    /// Its name in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Support => "support",
            Self::Owner => "owner",
            Self::Validator => "validator",
            Self::AdminNode => "admin_node",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }

    /// Whether it is given on one project rather than on the platform.
    pub const fn is_on_project(self) -> bool {
        matches!(self, Self::Viewer | Self::Editor)
    }

    /// What it gives. This match is the whole of the authorization policy (DESIGN.md §5).
    const fn gives(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Viewer => matches!(permission, P::ProjectGet | P::KeyGet | P::AuditGet),
            Self::Editor => matches!(
                permission,
                P::ProjectGet
                    | P::KeyGet
                    | P::KeyCreate
                    | P::KeyUpdate
                    | P::KeyRotate
                    | P::KeyDeactivate
                    | P::KeyActivate
                    | P::KeyReveal
                    | P::AuditGet
            ),
            Self::Support => {
                matches!(permission, P::ProjectGet | P::KeyGet | P::KeyLookup | P::DefaultKeyRotate | P::AuditGet)
            }
            Self::Owner => !matches!(permission, P::Peer | P::KeyLookup | P::DefaultKeyRotate),
            Self::Validator => matches!(permission, P::Sync),
            Self::AdminNode => matches!(permission, P::Peer),
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A thing that a method does, for which a role is needed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Permission {
    /// See a project.
    ProjectGet,
    /// Create projects.
    ProjectCreate,
    /// See a project's keys.
    KeyGet,
    /// Create keys in a project.
    KeyCreate,
    /// Change what a project's keys say, and when they expire.
    KeyUpdate,
    /// Replace a project's keys.
    KeyRotate,
    /// Give default keys new tokens.
    DefaultKeyRotate,
    /// Deactivate a project's keys.
    KeyDeactivate,
    /// Activate a project's deactivated keys.
    KeyActivate,
    /// See tokens in clear.
    KeyReveal,
    /// Learn which key a token belongs to.
    KeyLookup,
    /// See members and their roles.
    MemberGet,
    /// Create members.
    MemberCreate,
    /// Give members roles and credentials, and take them away.
    MemberUpdate,
    /// See who did what.
    AuditGet,
    /// Check the change log and all rows against it.
    AuditVerify,
    /// Take the database as it is after its history has forked.
    EpochAccept,
    /// Keep a replica.
    Sync,
    /// Speak as an admin to an admin.
    Peer,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 19] = [
        Self::ProjectGet,
        Self::ProjectCreate,
        Self::KeyGet,
        Self::KeyCreate,
        Self::KeyUpdate,
        Self::KeyRotate,
        Self::DefaultKeyRotate,
        Self::KeyDeactivate,
        Self::KeyActivate,
        Self::KeyReveal,
        Self::KeyLookup,
        Self::MemberGet,
        Self::MemberCreate,
        Self::MemberUpdate,
        Self::AuditGet,
        Self::AuditVerify,
        Self::EpochAccept,
        Self::Sync,
        Self::Peer,
    ];

    /// Its name in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProjectGet => "project.get",
            Self::ProjectCreate => "project.create",
            Self::KeyGet => "key.get",
            Self::KeyCreate => "key.create",
            Self::KeyUpdate => "key.update",
            Self::KeyRotate => "key.rotate",
            Self::DefaultKeyRotate => "key.rotate_default",
            Self::KeyDeactivate => "key.deactivate",
            Self::KeyActivate => "key.activate",
            Self::KeyReveal => "key.reveal",
            Self::KeyLookup => "key.lookup",
            Self::MemberGet => "member.get",
            Self::MemberCreate => "member.create",
            Self::MemberUpdate => "member.update",
            Self::AuditGet => "audit.get",
            Self::AuditVerify => "audit.verify",
            Self::EpochAccept => "epoch.accept",
            Self::Sync => "replica.sync",
            Self::Peer => "peer",
        }
    }
}

/// One role, on one project (viewer, editor) or on the platform (the others).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RoleBinding {
    /// The role.
    pub role: Role,
    /// The project, for the roles that are on one.
    pub project: Option<ProjectId>,
}

impl RoleBinding {
    /// A role with the scope that it needs.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field` when a project role has no project, or a platform role has one.
    pub fn new(field: &str, role: Role, project: Option<ProjectId>) -> Result<Self, Error> {
        if role.is_on_project() != project.is_some() {
            let rule = "on a project for viewer and editor, and without one for the platform roles";
            return Err(Error::field(field, rule));
        }
        Ok(Self { role, project })
    }
}

/// Whether one of `roles` gives `permission` on `project` (`None`: on the platform as a whole).
pub fn allows(roles: &[RoleBinding], permission: Permission, project: Option<&ProjectId>) -> bool {
    roles.iter().any(|binding| {
        binding.role.gives(permission) && (binding.project.is_none() || binding.project.as_ref() == project)
    })
}

/// Whether one of `roles` gives `permission` anywhere at all. Enough to refuse a caller before its request is read; not
/// enough to let it through.
pub fn allows_somewhere(roles: &[RoleBinding], permission: Permission) -> bool {
    roles.iter().any(|binding| binding.role.gives(permission))
}

/// Who calls the admin API.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Never reused.
    pub uid: Uid,
    /// What people call it; may be empty.
    pub display_name: String,
    /// What it may do.
    pub roles: Vec<RoleBinding>,
    /// Who created it; none for the root member.
    pub creator: Option<MemberId>,
    /// When it was created.
    pub create_time: Timestamp,
    /// The revision that created it; lists are in this order.
    pub create_revision: Revision,
}

/// A member that somebody asks for, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberDraft {
    /// Its id.
    pub id: MemberId,
    /// What people will call it; may be empty.
    pub display_name: String,
    /// What it will be allowed to do.
    pub roles: Vec<RoleBinding>,
}

impl Member {
    /// How many roles one can have.
    pub const MAX_ROLES: usize = 100;

    /// How many credentials one can have at a time.
    pub const MAX_CREDENTIALS: usize = 20;
}

impl MemberDraft {
    /// Checks what came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `member_id`, `member.display_name` or `member.roles`.
    pub fn parse(id: &str, display_name: String, roles: Vec<RoleBinding>) -> Result<Self, Error> {
        let id = MemberId::parse("member_id", id)?;
        check_text("member.display_name", &display_name, 128)?;
        let repeated = roles.iter().enumerate().any(|(i, role)| roles[..i].contains(role));
        if roles.len() > Member::MAX_ROLES || repeated {
            return Err(Error::field("member.roles", "at most 100 bindings, each given once"));
        }
        Ok(Self { id, display_name, roles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(id: &str) -> ProjectId {
        ProjectId::from_store(id.to_owned())
    }

    #[test]
    fn a_project_role_reaches_its_own_project_and_no_other() {
        let editor = [RoleBinding { role: Role::Editor, project: Some(project("6666")) }];
        assert!(allows(&editor, Permission::KeyCreate, Some(&project("6666"))));
        assert!(!allows(&editor, Permission::KeyCreate, Some(&project("7777"))));
        assert!(!allows(&editor, Permission::KeyCreate, None));
        assert!(!allows(&editor, Permission::ProjectCreate, Some(&project("6666"))));
    }

    #[test]
    fn validators_and_admin_nodes_get_their_one_permission_only() {
        for (role, only) in [(Role::Validator, Permission::Sync), (Role::AdminNode, Permission::Peer)] {
            let roles = [RoleBinding { role, project: None }];
            for permission in Permission::ALL {
                assert_eq!(allows(&roles, permission, None), permission == only, "{role} {}", permission.as_str());
                assert_eq!(allows(&roles, permission, Some(&project("1"))), permission == only);
            }
        }
    }

    #[test]
    fn nobody_without_roles_may_do_anything() {
        for permission in Permission::ALL {
            assert!(!allows(&[], permission, None));
        }
    }

    #[test]
    fn roles_need_the_scope_that_is_theirs() {
        assert!(RoleBinding::new("f", Role::Editor, None).is_err());
        assert!(RoleBinding::new("f", Role::Owner, Some(project("1"))).is_err());
        assert!(RoleBinding::new("f", Role::Viewer, Some(project("1"))).is_ok());
    }
}
