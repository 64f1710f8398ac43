use keyward_domain::{Error, Event, EventFilter, Permission};

use crate::app::{App, Caller, Page, PageRequest, visible};

impl App {
    /// Who did what, newest first. `text`: the filter as the request says it, which its page tokens are for.
    pub(crate) async fn list_events(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        text: &str,
        request: &PageRequest,
    ) -> Result<Page<Event>, Error> {
        let list = match &filter.project {
            Some(project) => {
                visible::on_project(caller, Permission::AuditGet, project)?;
                if self.store.project(project).await?.is_none() {
                    return Err(Error::project_not_found(project));
                }
                format!("events of {} where {text}", project.name())
            }
            None => {
                visible::on_platform(caller, Permission::AuditGet)?;
                format!("events where {text}")
            }
        };
        let window = request.window(self.secrets.page_key(), &list)?;
        let found = self.store.events(filter, window.before(), window.limit()).await?;
        let page = window.page(self.secrets.page_key(), &list, found.events, |event| event.revision);
        Ok(page.or_from(self.secrets.page_key(), &list, found.unsearched_before))
    }
}
