use std::sync::Arc;

use keyward_domain::{Error, Revision};
use keyward_proto::admin::{WaitEnforcedRequest, WaitEnforcedResponse};
use keyward_runtime::deadline;
use tonic::Request;

use crate::app::App;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<WaitEnforcedRequest>,
) -> Result<WaitEnforcedResponse, Error> {
    let patience = deadline::of(request.metadata());
    let receipt = app.wait_enforced(Revision(request.get_ref().revision), patience).await?;
    Ok(WaitEnforcedResponse { receipt: Some(convert::receipt(receipt)) })
}
