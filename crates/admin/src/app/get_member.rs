use keyward_domain::{Error, MemberId};

use crate::app::{App, MemberView};
use crate::auth::Authorized;

impl App {
    pub(crate) async fn get_member(&self, _: &Authorized, id: &MemberId) -> Result<MemberView, Error> {
        let member = self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))?;
        let credentials = self.store.credentials(id).await?;
        Ok(MemberView { member, credentials })
    }
}
