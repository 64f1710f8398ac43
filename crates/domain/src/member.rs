use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::error::{Error, OnField};
use crate::id::{MemberId, ProjectId, Uid};
use crate::log::Revision;
use crate::rule::Rule;
use crate::text::check_text;
use crate::time::Timestamp;

/// What a member may do, as a set of permissions.
#[derive(Clone, Copy, Debug, Deserialize, EnumString, Eq, Hash, IntoStaticStr, PartialEq, Serialize, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// On a project: read.
    Viewer,
    /// On a project: read and change.
    Editor,
    /// On the deployment: read every project, look up tokens, rotate default keys.
    Support,
    /// On the deployment: everything except LookupKey, RotateDefaultKey, Sync and PeerService.
    Owner,
    /// On the deployment: Sync only.
    Validator,
    /// On the deployment: the calls between admins only.
    AdminNode,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The role's name in the database and on the command line, such as `admin_node`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The role with this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Returns `true` for a role that is granted on one project, `false` for one that is granted on the deployment.
    pub const fn is_on_project(self) -> bool {
        matches!(self, Self::Viewer | Self::Editor)
    }

    /// Returns `true` if the role gives `permission`. This match is the whole authorization policy of roles: everything that
    /// is not in it is denied.
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
            Self::Owner => !matches!(permission, P::Sync | P::Peer | P::KeyLookup | P::DefaultKeyRotate),
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

/// A right that a method of the admin API requires, and that roles give.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
pub enum Permission {
    /// See a project.
    #[strum(serialize = "project.get")]
    ProjectGet,
    /// Create projects.
    #[strum(serialize = "project.create")]
    ProjectCreate,
    /// See a project's keys.
    #[strum(serialize = "key.get")]
    KeyGet,
    /// Create keys in a project.
    #[strum(serialize = "key.create")]
    KeyCreate,
    /// Change the descriptions, annotations and expiry of a project's keys.
    #[strum(serialize = "key.update")]
    KeyUpdate,
    /// Replace a project's keys.
    #[strum(serialize = "key.rotate")]
    KeyRotate,
    /// Give default keys new tokens.
    #[strum(serialize = "key.rotate_default")]
    DefaultKeyRotate,
    /// Deactivate a project's keys.
    #[strum(serialize = "key.deactivate")]
    KeyDeactivate,
    /// Activate a project's deactivated keys.
    #[strum(serialize = "key.activate")]
    KeyActivate,
    /// See tokens in clear.
    #[strum(serialize = "key.reveal")]
    KeyReveal,
    /// Look up the key that a token belongs to.
    #[strum(serialize = "key.lookup")]
    KeyLookup,
    /// See members and their roles.
    #[strum(serialize = "member.get")]
    MemberGet,
    /// Create members.
    #[strum(serialize = "member.create")]
    MemberCreate,
    /// Grant and revoke roles, issue and revoke credentials.
    #[strum(serialize = "member.update")]
    MemberUpdate,
    /// Read the change log as events.
    #[strum(serialize = "audit.get")]
    AuditGet,
    /// Check the change log and all rows against it.
    #[strum(serialize = "audit.verify")]
    AuditVerify,
    /// Accept the database's new epoch after its history forked.
    #[strum(serialize = "epoch.accept")]
    EpochAccept,
    /// Follow the change log as a validator.
    #[strum(serialize = "replica.sync")]
    Sync,
    /// Call another admin as an admin.
    #[strum(serialize = "peer")]
    Peer,
}

impl Permission {
    /// Every permission.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The permission's name in errors, such as `key.create`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One role, on one project (viewer, editor) or on the deployment (the others).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RoleBinding {
    /// The role.
    pub role: Role,
    /// The project, for the roles that are on one.
    pub project: Option<ProjectId>,
}

impl RoleBinding {
    /// Binds a role to the scope that it needs.
    ///
    /// # Errors
    /// The rule, if a role on a project has no project, or a role on the deployment has one.
    pub fn new(role: Role, project: Option<ProjectId>) -> Result<Self, Rule> {
        if role.is_on_project() != project.is_some() {
            return Err("on a project for viewer and editor, and without one for the roles on the deployment".into());
        }
        Ok(Self { role, project })
    }
}

/// Returns `true` if one of `roles` gives `permission` on `project`, or on the deployment as a whole if `project` is `None`.
pub fn allows(roles: &[RoleBinding], permission: Permission, project: Option<&ProjectId>) -> bool {
    roles.iter().any(|binding| {
        binding.role.gives(permission) && (binding.project.is_none() || binding.project.as_ref() == project)
    })
}

/// Returns `true` if one of `roles` gives `permission` on any project or on the deployment. `false` is enough to refuse a
/// caller before its request is read; `true` is not enough to admit it, because the request names the project.
pub fn allows_somewhere(roles: &[RoleBinding], permission: Permission) -> bool {
    roles.iter().any(|binding| binding.role.gives(permission))
}

/// A person or a service that may call the admin API.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Never reused.
    pub uid: Uid,
    /// Name for display; may be empty.
    pub display_name: String,
    /// The member's roles, each with its scope.
    pub roles: Vec<RoleBinding>,
    /// The member that created it; `None` for the root member.
    pub creator: Option<MemberId>,
    /// When it was created.
    pub create_time: Timestamp,
    /// The revision that created it. Lists are in this order.
    pub create_revision: Revision,
}

/// A member to create, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberDraft {
    /// Its id.
    pub id: MemberId,
    /// Name for display; may be empty.
    pub display_name: String,
    /// Its roles, each given once.
    pub roles: Vec<RoleBinding>,
}

impl Member {
    /// The most roles that a member can have.
    pub const MAX_ROLES: usize = 100;

    /// The most credentials that a member can have at a time.
    pub const MAX_CREDENTIALS: usize = 20;
}

impl MemberDraft {
    /// Checks the fields of a member.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `display_name` or `roles`.
    pub fn new(id: MemberId, display_name: String, roles: Vec<RoleBinding>) -> Result<Self, Error> {
        check_text(&display_name, 128).on_field("display_name")?;
        let repeated = roles.iter().enumerate().any(|(i, role)| roles[..i].contains(role));
        if roles.len() > Member::MAX_ROLES || repeated {
            return Err(Error::field("roles", "at most 100 bindings, each given once"));
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
    fn a_project_role_applies_to_its_own_project_only() {
        let editor = [RoleBinding { role: Role::Editor, project: Some(project("6666")) }];
        assert!(allows(&editor, Permission::KeyCreate, Some(&project("6666"))));
        assert!(!allows(&editor, Permission::KeyCreate, Some(&project("7777"))));
        assert!(!allows(&editor, Permission::KeyCreate, None));
        assert!(!allows(&editor, Permission::ProjectCreate, Some(&project("6666"))));
    }

    #[test]
    fn validators_and_admin_nodes_have_one_permission_each() {
        for (role, only) in [(Role::Validator, Permission::Sync), (Role::AdminNode, Permission::Peer)] {
            let roles = [RoleBinding { role, project: None }];
            for &permission in Permission::ALL {
                assert_eq!(allows(&roles, permission, None), permission == only, "{role} {}", permission.as_str());
                assert_eq!(allows(&roles, permission, Some(&project("1"))), permission == only);
            }
        }
    }

    #[test]
    fn only_validators_receive_the_digest_keys_and_only_admin_nodes_call_peers() {
        for &role in Role::ALL {
            let roles = [RoleBinding { role, project: role.is_on_project().then(|| project("1")) }];
            assert_eq!(allows_somewhere(&roles, Permission::Sync), role == Role::Validator, "{role}");
            assert_eq!(allows_somewhere(&roles, Permission::Peer), role == Role::AdminNode, "{role}");
        }
    }

    #[test]
    fn a_member_without_roles_has_no_permission() {
        for &permission in Permission::ALL {
            assert!(!allows(&[], permission, None));
        }
    }

    #[test]
    fn a_role_is_bound_to_the_scope_that_it_needs() {
        assert!(RoleBinding::new(Role::Editor, None).is_err());
        assert!(RoleBinding::new(Role::Owner, Some(project("1"))).is_err());
        assert!(RoleBinding::new(Role::Viewer, Some(project("1"))).is_ok());
    }

    #[test]
    fn roles_and_permissions_keep_their_names() {
        assert_eq!(
            Role::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
            ["viewer", "editor", "support", "owner", "validator", "admin_node"]
        );
        assert!(Role::ALL.iter().all(|role| Role::from_name(role.as_str()) == Some(*role)));
        assert_eq!((Role::from_name("Owner"), Role::from_name("")), (None, None));
        let permissions = "project.get project.create key.get key.create key.update key.rotate key.rotate_default \
                           key.deactivate key.activate key.reveal key.lookup member.get member.create member.update \
                           audit.get audit.verify epoch.accept replica.sync peer";
        let names: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
        assert_eq!(names.join(" "), permissions);
    }
}
