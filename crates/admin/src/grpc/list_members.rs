use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::{ListMembersRequest, ListMembersResponse};
use tonic::Request;

use crate::app::{App, PageRequest};
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<ListMembersRequest>) -> Result<ListMembersResponse, Error> {
    let caller = caller(&request)?;
    let ListMembersRequest { page_size, page_token } = request.into_inner();
    let page = app.list_members(&caller, &PageRequest { size: page_size, token: page_token }).await?;
    Ok(ListMembersResponse { members: page.items.iter().map(convert::member).collect(), next_page_token: page.next })
}
