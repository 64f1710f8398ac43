use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, KeyName};
use keyward_proto::admin::{RotateDefaultKeyRequest, RotateDefaultKeyResponse};
use keyward_runtime::deadline;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<RotateDefaultKeyRequest>,
) -> Result<RotateDefaultKeyResponse, Error> {
    let caller = caller(&request)?;
    let patience = deadline::of(request.metadata());
    let mut request = request.into_inner();
    let name = KeyName::parse("name", &request.name)?;
    app.may_rotate_default_key(&caller, &name)?;
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("RotateDefaultKey", &request_id, &request)?;
    let grace = request.grace.as_ref();
    let grace = grace
        .map(|grace| convert::span("grace", grace, Duration::ZERO..=MONTH, "at most 30 days"))
        .transpose()?
        .unwrap_or_default();
    let (key, token, receipt) = app.rotate_default_key(&caller, &name, grace, stamp, patience).await?;
    Ok(RotateDefaultKeyResponse {
        key: Some(convert::key(&app, &key)),
        token: convert::secret(token.as_ref()),
        receipt: Some(convert::receipt(receipt)),
    })
}
