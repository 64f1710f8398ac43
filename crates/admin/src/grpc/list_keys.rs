use std::sync::Arc;

use keyward_domain::{Error, ProjectId};
use keyward_proto::admin::{ListKeysRequest, ListKeysResponse};
use tonic::Request;

use crate::app::{App, PageRequest};
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<ListKeysRequest>) -> Result<ListKeysResponse, Error> {
    let caller = caller(&request)?;
    let ListKeysRequest { parent, page_size, page_token, filter } = request.into_inner();
    let project = ProjectId::parse_name("parent", &parent)?;
    let request = PageRequest { size: page_size, token: page_token };
    let page = app.list_keys(&caller, &project, &filter, &request).await?;
    let keys = page.items.iter().map(|key| convert::key(&app, key)).collect();
    Ok(ListKeysResponse { keys, next_page_token: page.next })
}
