use std::sync::Arc;

use keyward_domain::{Error, KeyName};
use keyward_proto::admin::{ActivateKeyRequest, ActivateKeyResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<ActivateKeyRequest>) -> Result<ActivateKeyResponse, Error> {
    let caller = caller(&request)?;
    let request = request.into_inner();
    let name = KeyName::parse("name", &request.name)?;
    app.may_activate_key(&caller, &name)?;
    let (key, receipt) = app.activate_key(&caller, &name, &request.etag).await?;
    Ok(ActivateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}
