use keyward_domain::{Error, Event, EventFilter, ProjectId};

use crate::app::{App, Page, PageRequest};
use crate::auth::Authorized;

impl App {
    /// Lists entries of the change log, newest first, of the authorized history. `text` is the filter as in the request: page
    /// tokens are bound to it.
    pub(crate) async fn list_events(
        &self,
        by: &Authorized<Option<ProjectId>>,
        filter: EventFilter,
        text: &str,
        request: &PageRequest,
    ) -> Result<Page<'_, Event>, Error> {
        let list = match &by.target {
            Some(project) => {
                if self.store.project(project).await?.is_none() {
                    return Err(Error::project_not_found(project));
                }
                format!("events of {} where {text}", project.name())
            }
            None => format!("events where {text}"),
        };
        let filter = EventFilter { project: by.target.clone(), ..filter };
        let window = request.window(self.secrets.page_key(), &list)?;
        let found = self.store.events(&filter, window.before(), window.limit()).await?;
        let page = window.page(self.secrets.page_key(), list, found.events, |event| event.revision);
        Ok(page.or_from(found.unsearched_before))
    }
}
