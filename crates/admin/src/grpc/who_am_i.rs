use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::{WhoAmIRequest, WhoAmIResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(_: Arc<App>, request: Request<WhoAmIRequest>) -> Result<WhoAmIResponse, Error> {
    let caller = caller(&request)?;
    Ok(WhoAmIResponse { member: Some(convert::member(&caller)) })
}
