use keyward_domain::{Error, Permission, Project, ProjectId, allows};

use crate::app::{App, Page, PageRequest};
use crate::auth::Caller;

const LIST: &str = "projects";

impl App {
    /// Lists the projects that the caller may see, oldest first: all of them, or those that it has a role on.
    pub(crate) async fn list_projects(
        &self,
        caller: &Caller,
        request: &PageRequest,
    ) -> Result<Page<'_, Project>, Error> {
        let window = request.window(self.secrets.page_key(), LIST)?;
        let all = allows(&caller.roles, Permission::ProjectGet, None);
        let own: Vec<ProjectId> = caller.roles.iter().filter_map(|binding| binding.project.clone()).collect();
        let projects = self.store.projects((!all).then_some(own.as_slice()), window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), LIST, projects, |project| project.create_revision))
    }
}
