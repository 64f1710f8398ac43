use keyward_domain::{Error, Member};

use crate::app::{App, Page, PageRequest};
use crate::auth::Authorized;

const LIST: &str = "members";

impl App {
    /// Lists members, oldest first.
    pub(crate) async fn list_members(&self, _: &Authorized, request: &PageRequest) -> Result<Page<'_, Member>, Error> {
        let window = request.window(self.secrets.page_key(), LIST)?;
        let members = self.store.members(window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), LIST, members, |member| member.create_revision))
    }
}
