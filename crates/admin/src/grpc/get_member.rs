use std::sync::Arc;

use keyward_domain::{Error, MemberId};
use keyward_proto::admin::{GetMemberRequest, GetMemberResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<GetMemberRequest>) -> Result<GetMemberResponse, Error> {
    let caller = caller(&request)?;
    let id = MemberId::parse_name("name", &request.get_ref().name)?;
    let view = app.get_member(&caller, &id).await?;
    Ok(GetMemberResponse { member: Some(convert::member_view(&view)) })
}
