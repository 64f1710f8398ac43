use keyward_domain::{Error, Key, KeyFilter, Permission, ProjectId};

use crate::app::{App, Caller, Page, PageRequest, visible};

impl App {
    pub(crate) async fn list_keys(
        &self,
        caller: &Caller,
        project: &ProjectId,
        filter: &str,
        request: &PageRequest,
    ) -> Result<Page<Key>, Error> {
        visible::on_project(caller, Permission::KeyGet, project)?;
        let wanted = KeyFilter::parse(filter)?;
        let list = format!("keys of {} where {filter}", project.name());
        let window = request.window(self.secrets.page_key(), &list)?;
        if self.store.project(project).await?.is_none() {
            return Err(Error::project_not_found(project));
        }
        let keys = self.store.keys(project, &wanted, window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), &list, keys, |key| key.create_revision))
    }
}
