use std::sync::Arc;

use keyward_domain::{CredentialName, Error};
use keyward_proto::admin::{RevokeCredentialRequest, RevokeCredentialResponse};
use keyward_runtime::deadline;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<RevokeCredentialRequest>,
) -> Result<RevokeCredentialResponse, Error> {
    let caller = caller(&request)?;
    let patience = deadline::of(request.metadata());
    let name = CredentialName::parse("name", &request.get_ref().name)?;
    let (view, receipt) = app.revoke_credential(&caller, &name, patience).await?;
    let (member, receipt) = (Some(convert::member_view(&view)), Some(convert::receipt(receipt)));
    Ok(RevokeCredentialResponse { member, receipt })
}
