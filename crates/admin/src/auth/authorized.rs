use keyward_domain::{Error, KeyName, MemberId, Permission, ProjectId, allows};
use keyward_store::{Call, RequestStamp};
use keyward_token::Digest;

use crate::auth::caller::Caller;

/// Proof that the caller has the permission of the method that it called, on the resource that it named.
#[derive(Clone, Debug)]
pub(crate) struct Authorized<T = ()> {
    /// The resource; `()` for the deployment as a whole.
    pub(crate) target: T,
    actor: MemberId,
    credential: Digest,
    permission: Permission,
    scope: Option<ProjectId>,
}

impl<T> Authorized<T> {
    /// The member that makes the change.
    pub(crate) const fn actor(&self) -> &MemberId {
        &self.actor
    }

    fn map<U>(self, to: impl FnOnce(T) -> U) -> Authorized<U> {
        let Self { target, actor, credential, permission, scope } = self;
        Authorized { target: to(target), actor, credential, permission, scope }
    }

    /// The proof in the form that the store checks in its transaction. `request` is how a retry is recognized; `None` for
    /// methods that need no request id because doing them twice equals doing them once.
    pub(crate) fn call(&self, request: Option<RequestStamp>) -> Call {
        Call {
            actor: self.actor.clone(),
            credential: Some(self.credential),
            permission: self.permission,
            scope: self.scope.clone(),
            request,
        }
    }
}

impl Caller {
    /// Authorizes the call on a project.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND` if the caller may not see the project; `PERMISSION_DENIED`.
    pub(crate) fn on_project(&self, project: ProjectId) -> Result<Authorized<ProjectId>, Error> {
        if !allows(&self.roles, Permission::ProjectGet, Some(&project)) {
            return Err(Error::project_not_found(&project));
        }
        let scope = Some(project.clone());
        self.on(project, scope)
    }

    /// Authorizes the call on a key.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND` if the caller may not see the keys of the project; `PERMISSION_DENIED`.
    pub(crate) fn on_key(&self, name: KeyName) -> Result<Authorized<KeyName>, Error> {
        if !allows(&self.roles, Permission::KeyGet, Some(&name.project)) {
            return Err(Error::key_not_found(&name));
        }
        let scope = Some(name.project.clone());
        self.on(name, scope)
    }

    /// Authorizes the call on the deployment as a whole.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub(crate) fn on_platform(&self) -> Result<Authorized, Error> {
        self.on((), None)
    }

    /// Authorizes the call on the log of a project, or on the whole log without one.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `PERMISSION_DENIED`.
    pub(crate) fn on_history(&self, project: Option<ProjectId>) -> Result<Authorized<Option<ProjectId>>, Error> {
        match project {
            Some(project) => Ok(self.on_project(project)?.map(Some)),
            None => Ok(self.on_platform()?.map(|()| None)),
        }
    }

    fn on<T>(&self, target: T, scope: Option<ProjectId>) -> Result<Authorized<T>, Error> {
        // A handler that asks for a proof under a method that the table gives to any member: fail closed.
        let permission = self.permission.ok_or_else(|| Error::internal("the method has no permission"))?;
        if !allows(&self.roles, permission, scope.as_ref()) {
            return Err(Error::permission_denied(permission.as_str()));
        }
        Ok(Authorized { target, actor: self.id.clone(), credential: self.credential, permission, scope })
    }
}
