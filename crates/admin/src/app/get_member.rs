use keyward_domain::{Error, Member, MemberId, Permission};

use crate::app::{App, visible};

impl App {
    pub(crate) async fn get_member(&self, caller: &Member, id: &MemberId) -> Result<Member, Error> {
        visible::on_platform(caller, Permission::MemberGet)?;
        self.store.member(id).await?.ok_or_else(|| Error::member_not_found(id))
    }
}
