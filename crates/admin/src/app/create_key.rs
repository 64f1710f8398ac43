use keyward_domain::{Error, Key, KeyDraft, Permission, ProjectId};
use keyward_store::{Call, RequestStamp};
use keyward_token::Token;

use crate::app::{App, Caller, Receipt, visible};

/// A key with its token.
pub(crate) struct Created {
    pub(crate) key: Key,
    /// None on a retry when tokens are not sealed.
    pub(crate) token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    pub(crate) fn may_create_key(&self, caller: &Caller, project: &ProjectId) -> Result<(), Error> {
        visible::on_project(caller, Permission::KeyCreate, project)
    }

    /// Creates a key; it is active and known to every validator when this returns, or soon after.
    pub(crate) async fn create_key(
        &self,
        caller: &Caller,
        draft: KeyDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        let call = Call { scope: Some(draft.name.project.clone()), ..caller.to(Permission::KeyCreate, request) };
        let (token, mint) = self.secrets.mint(draft.platform.token_kind())?;
        let created = self.store.create_key(&call, &draft, &mint).await?;
        let token = self.secret_of(token, created.secret, created.key.uid)?;
        let receipt = self.push(created.revision).await;
        tracing::info!(revision = %created.revision, key = %created.key.name, actor = %caller.id, "key created");
        Ok(Created { key: created.key, token, receipt })
    }
}
