use keyward_domain::{Error, Key, Project, ProjectDraft};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, Receipt};
use crate::auth::Authorized;

/// A new project with its default key.
pub(crate) struct Created {
    pub(crate) project: Project,
    pub(crate) default_key: Key,
    /// `None` on a retry if the token cannot be returned again: it is not sealed, or no longer in use.
    pub(crate) default_token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Creates a project. Its default key is active at once; the receipt shows if every validator has it already.
    pub(crate) async fn create_project(
        &self,
        by: &Authorized,
        draft: ProjectDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        let (token, mint) = self.secrets.mint(TokenKind::Server)?;
        let created = self.store.create_project(&by.call(request), &draft, random_suffix()?, &mint).await?;
        let default_token = self.secret_of(token, created.secret, created.default_key.uid)?;
        let receipt = self.push(created.revision).await;
        tracing::info!(revision = %created.revision, project = %created.project.id, actor = %by.actor(), "project created");
        Ok(Created { project: created.project, default_key: created.default_key, default_token, receipt })
    }
}

/// Random digits for the default key's name. They distinguish default keys for people; nothing depends on their being hard to
/// guess.
fn random_suffix() -> Result<u32, Error> {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    let head = bytes.first_chunk::<4>().ok_or_else(|| Error::internal("no random bytes"))?;
    Ok(u32::from_be_bytes(*head))
}
