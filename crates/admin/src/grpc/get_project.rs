use std::sync::Arc;

use keyward_domain::{Error, ProjectId};
use keyward_proto::admin::{GetProjectRequest, GetProjectResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<GetProjectRequest>) -> Result<GetProjectResponse, Error> {
    let caller = caller(&request)?;
    let id = ProjectId::parse_name("name", &request.get_ref().name)?;
    let project = app.get_project(&caller, &id).await?;
    Ok(GetProjectResponse { project: Some(convert::project(&project)) })
}
