use keyward_domain::{Error, Member, MemberDraft};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, Receipt};
use crate::auth::Authorized;

/// A new member with its credential.
pub(crate) struct Created {
    pub(crate) member: Member,
    /// `None` on a retry if the credential cannot be returned again: it is not sealed, or no longer in use.
    pub(crate) credential: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Creates a member. Admins read members from the database on every call, so its credential works at once.
    pub(crate) async fn create_member(
        &self,
        by: &Authorized,
        draft: MemberDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        let (token, mint) = self.secrets.mint(TokenKind::Member)?;
        let created = self.store.create_member(&by.call(request), &draft, &mint).await?;
        let credential = self.secret_of(token, created.secret, created.member.uid)?;
        // Validators follow every revision, including those that do not change their tables.
        self.publisher.announce(created.revision);
        tracing::info!(revision = %created.revision, member = %created.member.id, actor = %by.actor(), "member created");
        Ok(Created { member: created.member, credential, receipt: Receipt::at_once(created.revision) })
    }
}
