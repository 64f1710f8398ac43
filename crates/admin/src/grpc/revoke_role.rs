use std::sync::Arc;

use keyward_domain::{Error, MemberId};
use keyward_proto::admin::{RevokeRoleRequest, RevokeRoleResponse};
use keyward_runtime::deadline;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<RevokeRoleRequest>) -> Result<RevokeRoleResponse, Error> {
    let caller = caller(&request)?;
    let patience = deadline::of(request.metadata());
    let request = request.into_inner();
    let id = MemberId::parse_name("name", &request.name)?;
    let role = convert::to_role_binding("role", &request.role.unwrap_or_default())?;
    let (view, receipt) = app.revoke_role(&caller, &id, &role, patience).await?;
    let (member, receipt) = (Some(convert::member_view(&view)), Some(convert::receipt(receipt)));
    Ok(RevokeRoleResponse { member, receipt })
}
