use keyward_domain::{Error, Project, ProjectId};

use crate::app::App;
use crate::auth::Authorized;

impl App {
    pub(crate) async fn get_project(&self, by: &Authorized<ProjectId>) -> Result<Project, Error> {
        self.store.project(&by.target).await?.ok_or_else(|| Error::project_not_found(&by.target))
    }
}
