use std::ops::Deref;
use std::sync::Arc;

use keyward_domain::{Error, Member, Permission, allows_somewhere};
use keyward_store::{Call, RequestStamp};
use keyward_token::Digest;

use crate::app::App;

/// Who calls: a member, as it was when it was last looked up.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    member: Arc<Member>,
    /// What it proved itself with. Whatever it changes is refused once that is revoked.
    pub(crate) credential: Digest,
    /// What the method needs somewhere, if anything.
    needs: Option<Permission>,
}

impl Deref for Caller {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl Caller {
    /// A call of this member on the platform; `request`: what makes a retry recognizable.
    pub(super) fn to(&self, permission: Permission, request: Option<RequestStamp>) -> Call {
        Call { actor: self.id.clone(), credential: Some(self.credential), permission, scope: None, request }
    }
}

impl App {
    /// Who presents this credential, if it may call a method that needs this.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID`, `PERMISSION_DENIED`, `STORE_UNAVAILABLE`.
    pub(crate) async fn authenticate(&self, credential: &str, needs: Option<Permission>) -> Result<Caller, Error> {
        for digest in self.secrets.credential_digests(credential) {
            if let Some(member) = self.store.member_by_credential(&digest).await? {
                return admitted(member, digest, needs);
            }
        }
        Err(Error::credential_invalid())
    }

    /// The caller as it is now: between the head of a call and its message anything may have been revoked.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID`, `PERMISSION_DENIED`, `STORE_UNAVAILABLE`.
    pub(crate) async fn look_again(&self, caller: &Caller) -> Result<Caller, Error> {
        let member = self.store.member_by_credential(&caller.credential).await?;
        admitted(member.ok_or_else(Error::credential_invalid)?, caller.credential, caller.needs)
    }
}

fn admitted(member: Member, credential: Digest, needs: Option<Permission>) -> Result<Caller, Error> {
    match needs {
        Some(permission) if !allows_somewhere(&member.roles, permission) => {
            Err(Error::permission_denied(permission.as_str()))
        }
        _ => Ok(Caller { member: Arc::new(member), credential, needs }),
    }
}
