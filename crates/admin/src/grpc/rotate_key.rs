use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, KeyId, KeyName};
use keyward_proto::admin::{RotateKeyRequest, RotateKeyResponse};
use keyward_store::Rotation;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) async fn handle(app: Arc<App>, request: Request<RotateKeyRequest>) -> Result<RotateKeyResponse, Error> {
    let caller = caller(&request)?;
    let mut request = request.into_inner();
    let old = KeyName::parse("name", &request.name)?;
    app.may_rotate_key(&caller, &old)?;
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("RotateKey", &request_id, &request)?;
    let after = request.deactivate_old_after.as_ref();
    let deactivate_old_after = after
        .map(|after| convert::span("deactivate_old_after", after, SECOND..=YEAR, "1 s to 365 days, or absent"))
        .transpose()?;
    let new = KeyId::parse_new("new_key_id", &request.new_key_id)?;
    let rotated = app.rotate_key(&caller, Rotation { old, new, deactivate_old_after }, stamp).await?;
    Ok(RotateKeyResponse {
        key: Some(convert::key(&app, &rotated.key)),
        token: convert::secret(rotated.token.as_ref()),
        old_key: Some(convert::key(&app, &rotated.old)),
        receipt: Some(convert::receipt(rotated.receipt)),
    })
}
