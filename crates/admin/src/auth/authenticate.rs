use keyward_domain::{Error, Permission};

use crate::app::App;
use crate::auth::caller::Caller;

impl App {
    /// Finds the member with this credential, for a method that requires `permission`.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID`; `PERMISSION_DENIED` if the member has the permission nowhere; `STORE_UNAVAILABLE`.
    pub(super) async fn authenticate(&self, credential: &str, permission: Option<Permission>) -> Result<Caller, Error> {
        for digest in self.secrets.credential_digests(credential) {
            if let Some(member) = self.store.member_by_credential(&digest).await? {
                return Caller::new(member, digest, permission);
            }
        }
        Err(Error::credential_invalid())
    }

    /// Reads the caller's member again: its credential or roles may have been revoked since the headers of the call arrived.
    ///
    /// # Errors
    /// Those of [`App::authenticate`].
    pub(crate) async fn refresh(&self, caller: &Caller) -> Result<Caller, Error> {
        let member = self.store.member_by_credential(&caller.credential).await?;
        Caller::new(member.ok_or_else(Error::credential_invalid)?, caller.credential, caller.permission)
    }
}
