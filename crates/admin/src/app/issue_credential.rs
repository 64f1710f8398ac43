use keyward_domain::{CredentialName, Error, MemberId};
use keyward_store::RequestStamp;
use keyward_token::{Token, TokenKind};

use crate::app::{App, MemberView, Receipt};
use crate::auth::Authorized;

/// A new credential and the member that it belongs to.
pub(crate) struct Issued {
    pub(crate) view: MemberView,
    pub(crate) name: CredentialName,
    /// `None` on a retry if the credential cannot be returned again: it is not sealed, or no longer in use.
    pub(crate) credential: Option<Token>,
    pub(crate) receipt: Receipt,
}

impl App {
    /// Issues one more credential for a member.
    pub(crate) async fn issue_credential(
        &self,
        by: &Authorized,
        id: &MemberId,
        request: Option<RequestStamp>,
    ) -> Result<Issued, Error> {
        let owner = self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))?;
        let (token, mint) = self.secrets.mint_for(TokenKind::Member, owner.uid)?;
        let issued = self.store.issue_credential(&by.call(request), id, &mint).await?;
        let credential = self.secret_of(token, issued.secret, owner.uid)?;
        let revision = issued.changed.revision;
        self.publisher.announce(revision);
        tracing::info!(%revision, credential = %issued.name, actor = %by.actor(), "credential issued");
        let receipt = Receipt::at_once(revision);
        Ok(Issued { view: issued.changed.into(), name: issued.name, credential, receipt })
    }
}
