use keyward_domain::{Error, MemberId, Permission};

use crate::app::{App, Caller, MemberView, visible};

impl App {
    pub(crate) async fn get_member(&self, caller: &Caller, id: &MemberId) -> Result<MemberView, Error> {
        visible::on_platform(caller, Permission::MemberGet)?;
        let member = self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))?;
        let credentials = self.store.credentials(id).await?;
        Ok(MemberView { member, credentials })
    }
}
