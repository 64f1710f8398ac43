use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::{ListProjectsRequest, ListProjectsResponse};
use tonic::Request;

use crate::app::{App, PageRequest};
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<ListProjectsRequest>,
) -> Result<ListProjectsResponse, Error> {
    let caller = caller(&request)?;
    let ListProjectsRequest { page_size, page_token } = request.into_inner();
    let page = app.list_projects(&caller, &PageRequest { size: page_size, token: page_token }).await?;
    Ok(ListProjectsResponse { projects: page.items.iter().map(convert::project).collect(), next_page_token: page.next })
}
