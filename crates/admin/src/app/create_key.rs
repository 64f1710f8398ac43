use keyward_domain::{Error, Key, KeyDraft, KeyName, ProjectId};
use keyward_store::RequestStamp;
use keyward_token::Token;

use crate::app::{App, Receipt};
use crate::auth::Authorized;

/// A new key with its token.
pub(crate) struct Created {
    pub(crate) key: Key,
    /// `None` on a retry if the token cannot be returned again: it is not sealed, or no longer in use.
    pub(crate) token: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Creates a key in the authorized project. It is active at once; the receipt shows if every validator has it already.
    pub(crate) async fn create_key(
        &self,
        by: &Authorized<ProjectId>,
        draft: KeyDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        // The proof names the project; the draft must not name another.
        let draft = KeyDraft { name: KeyName { project: by.target.clone(), key: draft.name.key }, ..draft };
        let (token, mint) = self.secrets.mint(draft.platform.token_kind())?;
        let created = self.store.create_key(&by.call(request), &draft, &mint).await?;
        let token = self.secret_of(token, created.secret, created.key.uid)?;
        let receipt = self.push(created.revision).await;
        tracing::info!(revision = %created.revision, key = %created.key.name, actor = %by.actor(), "key created");
        Ok(Created { key: created.key, token, receipt })
    }
}
