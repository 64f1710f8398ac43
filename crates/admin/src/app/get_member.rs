use keyward_domain::{Error, Member, MemberId, Permission};

use crate::app::{App, MemberView, visible};

impl App {
    pub(crate) async fn get_member(&self, caller: &Member, id: &MemberId) -> Result<MemberView, Error> {
        visible::on_platform(caller, Permission::MemberGet)?;
        let member = self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))?;
        let credentials = self.store.credentials(id).await?;
        Ok(MemberView { member, credentials })
    }
}
