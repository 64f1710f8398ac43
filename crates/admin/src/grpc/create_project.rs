use std::sync::Arc;

use keyward_domain::{Error, ProjectDraft};
use keyward_proto::admin::{CreateProjectRequest, CreateProjectResponse, Project};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<CreateProjectRequest>,
) -> Result<CreateProjectResponse, Error> {
    let caller = caller(&request)?;
    app.may_create_project(&caller)?;
    let mut request = request.into_inner();
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("CreateProject", &request_id, &request)?;
    let draft = draft(request)?;
    let created = app.create_project(&caller, draft, stamp).await?;
    Ok(CreateProjectResponse {
        project: Some(convert::project(&created.project)),
        default_key: Some(convert::key(&app, &created.default_key)),
        default_token: convert::secret(created.default_token.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

fn draft(request: CreateProjectRequest) -> Result<ProjectDraft, Error> {
    let project = request.project.unwrap_or_default();
    let allowed = Project { display_name: project.display_name.clone(), ..Default::default() };
    convert::refuse_output_only("project", &project, &allowed, "display_name")?;
    ProjectDraft::parse(&request.project_id, project.display_name)
}
