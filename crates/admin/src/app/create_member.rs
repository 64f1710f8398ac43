use keyward_domain::{Error, Member, MemberDraft, Permission};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, Caller, Receipt, visible};

/// A member with its credential.
pub(crate) struct Created {
    pub(crate) member: Member,
    /// None on a retry when tokens are not sealed.
    pub(crate) credential: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    pub(crate) fn may_create_member(&self, caller: &Caller) -> Result<(), Error> {
        visible::on_platform(caller, Permission::MemberCreate)
    }

    /// Creates a member. Admins read members from the database on every call, so it is known at once.
    pub(crate) async fn create_member(
        &self,
        caller: &Caller,
        draft: MemberDraft,
        request: Option<RequestStamp>,
    ) -> Result<Created, Error> {
        let call = caller.to(Permission::MemberCreate, request);
        let (token, mint) = self.secrets.mint(TokenKind::Member)?;
        let created = self.store.create_member(&call, &draft, &mint).await?;
        let credential = self.secret_of(token, created.secret, created.member.uid)?;
        // Validators follow every revision, also those that do not concern them.
        self.publisher.announce(created.revision);
        tracing::info!(revision = %created.revision, member = %created.member.id, actor = %caller.id, "member created");
        Ok(Created { member: created.member, credential, receipt: Receipt::at_once(created.revision) })
    }
}
