use keyward_domain::{Error, Permission, Project, ProjectId};

use crate::app::{App, Caller, visible};

impl App {
    pub(crate) async fn get_project(&self, caller: &Caller, id: &ProjectId) -> Result<Project, Error> {
        visible::on_project(caller, Permission::ProjectGet, id)?;
        self.store.project(id).await?.ok_or_else(|| Error::project_not_found(id))
    }
}
