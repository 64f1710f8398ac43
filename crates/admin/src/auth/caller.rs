use std::ops::Deref;
use std::sync::Arc;

use keyward_domain::{Error, Member, Permission, allows_somewhere};
use keyward_token::Digest;

/// The member that makes a call, as the database had it when it was last read.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    member: Arc<Member>,
    /// Digest of the credential that it presented. The store refuses the caller's changes once it is revoked.
    pub(crate) credential: Digest,
    /// The permission that the method requires, from the table of access; `None` if any member may call it.
    pub(super) permission: Option<Permission>,
}

impl Deref for Caller {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl Caller {
    /// A caller of a method that requires `permission`.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` if the member has the permission nowhere.
    pub(super) fn new(member: Member, credential: Digest, permission: Option<Permission>) -> Result<Self, Error> {
        match permission {
            Some(permission) if !allows_somewhere(&member.roles, permission) => {
                Err(Error::permission_denied(permission.as_str()))
            }
            _ => Ok(Self { member: Arc::new(member), credential, permission }),
        }
    }
}

/// The caller that [`AuthLayer`](crate::auth::AuthLayer) put into the extensions of a request.
///
/// # Errors
/// `CREDENTIAL_MISSING`: the request did not pass the layer.
pub(crate) fn caller_of<T>(request: &tonic::Request<T>) -> Result<Caller, Error> {
    request.extensions().get::<Caller>().cloned().ok_or_else(Error::credential_missing)
}
