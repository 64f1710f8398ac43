use keyward_domain::{Error, Key, Permission, Project, ProjectDraft};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, Caller, Receipt, visible};

/// A project with its default key.
pub(crate) struct Created {
    pub(crate) project: Project,
    pub(crate) default_key: Key,
    /// None on a retry when tokens are not sealed.
    pub(crate) default_token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    pub(crate) fn may_create_project(&self, caller: &Caller) -> Result<(), Error> {
        visible::on_platform(caller, Permission::ProjectCreate)
    }

    /// Creates a project; its default key is active and known to every validator when this returns, or soon after.
    pub(crate) async fn create_project(
        &self,
        caller: &Caller,
        draft: ProjectDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        let call = caller.to(Permission::ProjectCreate, request);
        let (token, mint) = self.secrets.mint(TokenKind::Server)?;
        let created = self.store.create_project(&call, &draft, random_suffix()?, &mint).await?;
        let default_token = self.secret_of(token, created.secret, created.default_key.uid)?;
        let receipt = self.push(created.revision).await;
        tracing::info!(revision = %created.revision, project = %created.project.id, actor = %caller.id, "project created");
        Ok(Created { project: created.project, default_key: created.default_key, default_token, receipt })
    }
}

/// The digits of the default key's name. They only tell it apart at sight: nothing depends on their being hard to guess.
fn random_suffix() -> Result<u32, Error> {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    let head = bytes.first_chunk::<4>().ok_or_else(|| Error::internal("no random bytes"))?;
    Ok(u32::from_be_bytes(*head))
}
