use std::sync::Arc;

use keyward_domain::{Error, OnField, ProjectDraft, ProjectId};
use keyward_proto::admin::project_service_server::ProjectService;
use keyward_proto::admin::{
    CreateProjectRequest, CreateProjectResponse, GetProjectRequest, GetProjectResponse, ListProjectsRequest,
    ListProjectsResponse, Project,
};

use crate::app::{App, PageRequest};
use crate::grpc::convert;
use crate::grpc::service::{Incoming, service};

service!(
    /// `ProjectService`.
    ProjectApi: ProjectService {
        create_project: CreateProjectRequest -> CreateProjectResponse,
        get_project: GetProjectRequest -> GetProjectResponse,
        list_projects: ListProjectsRequest -> ListProjectsResponse,
    }
);

async fn create_project(
    app: Arc<App>,
    Incoming { caller, mut message, .. }: Incoming<CreateProjectRequest>,
) -> Result<CreateProjectResponse, Error> {
    let by = caller.on_platform()?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("CreateProject", &request_id, &message)?;
    let created = app.create_project(&by, draft(message)?, stamp).await?;
    Ok(CreateProjectResponse {
        project: Some(convert::project(&created.project)),
        default_key: Some(convert::key(&app, &created.default_key)),
        default_token: convert::secret(created.default_token.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

async fn get_project(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<GetProjectRequest>,
) -> Result<GetProjectResponse, Error> {
    let by = caller.on_project(ProjectId::parse_name(&message.name).on_field("name")?)?;
    let project = app.get_project(&by).await?;
    Ok(GetProjectResponse { project: Some(convert::project(&project)) })
}

async fn list_projects(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<ListProjectsRequest>,
) -> Result<ListProjectsResponse, Error> {
    let ListProjectsRequest { page_size, page_token } = message;
    let page = app.list_projects(&caller, &PageRequest { size: page_size, token: page_token }).await?;
    let (projects, next_page_token) = convert::page(page, convert::project);
    Ok(ListProjectsResponse { projects, next_page_token })
}

/// An empty `project_id` lets Keyward allocate one.
fn draft(message: CreateProjectRequest) -> Result<ProjectDraft, Error> {
    let project = message.project.unwrap_or_default();
    let allowed = Project { display_name: project.display_name.clone(), ..Default::default() };
    convert::refuse_output_only("project", &project, &allowed, "display_name")?;
    let id = match message.project_id.as_str() {
        "" => None,
        id => Some(ProjectId::parse(id).on_field("project_id")?),
    };
    ProjectDraft::new(id, project.display_name).on_field("project.display_name")
}
