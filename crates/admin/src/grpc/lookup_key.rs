use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::{LookupKeyRequest, LookupKeyResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<LookupKeyRequest>) -> Result<LookupKeyResponse, Error> {
    let caller = caller(&request)?;
    let key = app.lookup_key(&caller, request.get_ref().token.trim()).await?;
    Ok(LookupKeyResponse { key: Some(convert::key(&app, &key)) })
}
