use keyward_domain::{Error, Member, Permission};

use crate::app::{App, Caller, Page, PageRequest, visible};

const LIST: &str = "members";

impl App {
    pub(crate) async fn list_members(&self, caller: &Caller, request: &PageRequest) -> Result<Page<Member>, Error> {
        visible::on_platform(caller, Permission::MemberGet)?;
        let window = request.window(self.secrets.page_key(), LIST)?;
        let members = self.store.members(window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), LIST, members, |member| member.create_revision))
    }
}
