use keyward_domain::{Error, Member, Permission, Project, ProjectId};

use crate::app::{App, visible};

impl App {
    pub(crate) async fn get_project(&self, caller: &Member, id: &ProjectId) -> Result<Project, Error> {
        visible::on_project(caller, Permission::ProjectGet, id)?;
        self.store.project(id).await?.ok_or_else(|| Error::project_not_found(id))
    }
}
