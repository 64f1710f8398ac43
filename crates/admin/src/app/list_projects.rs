use keyward_domain::{Error, Permission, Project, ProjectId, allows};

use crate::app::{App, Caller, Page, PageRequest};

const LIST: &str = "projects";

impl App {
    /// The projects that the caller may see: all of them, or those that it has a role on.
    pub(crate) async fn list_projects(&self, caller: &Caller, request: &PageRequest) -> Result<Page<Project>, Error> {
        let window = request.window(self.secrets.page_key(), LIST)?;
        let all = allows(&caller.roles, Permission::ProjectGet, None);
        let own: Vec<ProjectId> = caller.roles.iter().filter_map(|binding| binding.project.clone()).collect();
        let projects = self.store.projects((!all).then_some(own.as_slice()), window.after, window.limit()).await?;
        Ok(window.page(self.secrets.page_key(), LIST, projects, |project| project.create_revision))
    }
}
