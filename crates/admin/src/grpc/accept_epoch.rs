use std::sync::Arc;

use keyward_domain::{Epoch, Error};
use keyward_proto::admin::{AcceptEpochRequest, AcceptEpochResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<AcceptEpochRequest>) -> Result<AcceptEpochResponse, Error> {
    let caller = caller(&request)?;
    let rule = "an epoch's UUID, as the resource of a HISTORY_FORKED entry ends";
    let epoch = Epoch::from_text(&request.get_ref().epoch).ok_or_else(|| Error::field("epoch", rule))?;
    let (receipt, released) = app.accept_epoch(&caller, epoch).await?;
    let released = i64::try_from(released).unwrap_or(i64::MAX);
    Ok(AcceptEpochResponse { receipt: Some(convert::receipt(receipt)), released })
}
