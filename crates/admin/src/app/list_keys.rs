use keyward_domain::{Error, Key, KeyFilter, ProjectId};

use crate::app::{App, Page, PageRequest};
use crate::auth::Authorized;

impl App {
    /// Lists keys of a project, oldest first. `text` is the filter as in the request: page tokens are bound to it.
    pub(crate) async fn list_keys(
        &self,
        by: &Authorized<ProjectId>,
        filter: &KeyFilter,
        text: &str,
        request: &PageRequest,
    ) -> Result<Page<'_, Key>, Error> {
        let project = &by.target;
        let list = format!("keys of {} where {text}", project.name());
        let window = request.window(self.secrets.page_key(), &list)?;
        if self.store.project(project).await?.is_none() {
            return Err(Error::project_not_found(project));
        }
        let keys = self.store.keys(project, filter, window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), list, keys, |key| key.create_revision))
    }
}
