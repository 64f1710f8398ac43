use std::sync::Arc;

use keyward_domain::{Error, KeyName};
use keyward_proto::admin::{DeactivateKeyRequest, DeactivateKeyResponse};
use keyward_runtime::deadline;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<DeactivateKeyRequest>,
) -> Result<DeactivateKeyResponse, Error> {
    let caller = caller(&request)?;
    let patience = deadline::of(request.metadata());
    let request = request.into_inner();
    let name = KeyName::parse("name", &request.name)?;
    app.may_deactivate_key(&caller, &name)?;
    let (key, receipt) = app.deactivate_key(&caller, &name, &request.etag, patience).await?;
    Ok(DeactivateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}
