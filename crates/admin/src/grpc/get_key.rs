use std::sync::Arc;

use keyward_domain::{Error, KeyName};
use keyward_proto::admin::{GetKeyRequest, GetKeyResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<GetKeyRequest>) -> Result<GetKeyResponse, Error> {
    let caller = caller(&request)?;
    let name = KeyName::parse("name", &request.get_ref().name)?;
    let key = app.get_key(&caller, &name).await?;
    Ok(GetKeyResponse { key: Some(convert::key(&app, &key)) })
}
