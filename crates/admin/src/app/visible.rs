use keyward_domain::{Error, KeyName, Member, Permission, ProjectId, allows};

/// Lets a caller act on a project, or tells it no more than it may know: a project that it may not see is not there.
///
/// # Errors
/// `PROJECT_NOT_FOUND`, `PERMISSION_DENIED`.
pub(super) fn on_project(caller: &Member, permission: Permission, project: &ProjectId) -> Result<(), Error> {
    if !allows(&caller.roles, Permission::ProjectGet, Some(project)) {
        return Err(Error::project_not_found(project));
    }
    in_scope(caller, permission, Some(project))
}

/// The same for a key: one of a project that the caller may not see is not there.
///
/// # Errors
/// `KEY_NOT_FOUND`, `PERMISSION_DENIED`.
pub(super) fn on_key(caller: &Member, permission: Permission, name: &KeyName) -> Result<(), Error> {
    if !allows(&caller.roles, Permission::KeyGet, Some(&name.project)) {
        return Err(Error::key_not_found(name));
    }
    in_scope(caller, permission, Some(&name.project))
}

/// Lets a caller act on the platform as a whole.
///
/// # Errors
/// `PERMISSION_DENIED`.
pub(super) fn on_platform(caller: &Member, permission: Permission) -> Result<(), Error> {
    in_scope(caller, permission, None)
}

fn in_scope(caller: &Member, permission: Permission, project: Option<&ProjectId>) -> Result<(), Error> {
    if allows(&caller.roles, permission, project) { Ok(()) } else { Err(Error::permission_denied(permission.as_str())) }
}
