use keyward_domain::{CredentialName, Error, MemberId};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, Caller, MemberView, Receipt, member};

/// A new credential with whose it is.
pub(crate) struct Issued {
    pub(crate) view: MemberView,
    pub(crate) name: CredentialName,
    /// None on a retry when tokens are not sealed.
    pub(crate) credential: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Makes one more credential of a member.
    pub(crate) async fn issue_credential(
        &self,
        caller: &Caller,
        id: &MemberId,
        request: Option<RequestStamp>,
    ) -> Result<Issued, Error> {
        member::may_change(caller)?;
        let owner = self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))?;
        let (token, mint) = self.secrets.mint_for(TokenKind::Member, owner.uid)?;
        let issued = self.store.issue_credential(&member::to_change(caller, request), id, &mint).await?;
        let credential = self.secret_of(token, issued.secret, owner.uid)?;
        let revision = issued.changed.revision;
        self.publisher.announce(revision);
        tracing::info!(%revision, credential = %issued.name, actor = %caller.id, "credential issued");
        let receipt = Receipt::at_once(revision);
        Ok(Issued { view: issued.changed.into(), name: issued.name, credential, receipt })
    }
}
