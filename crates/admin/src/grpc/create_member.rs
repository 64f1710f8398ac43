use std::sync::Arc;

use keyward_domain::{Error, MemberDraft};
use keyward_proto::admin::{CreateMemberRequest, CreateMemberResponse, Member};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<CreateMemberRequest>,
) -> Result<CreateMemberResponse, Error> {
    let caller = caller(&request)?;
    app.may_create_member(&caller)?;
    let mut request = request.into_inner();
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("CreateMember", &request_id, &request)?;
    let draft = draft(request)?;
    let created = app.create_member(&caller, draft, stamp).await?;
    Ok(CreateMemberResponse {
        member: Some(convert::member(&created.member)),
        credential: convert::secret(created.credential.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

fn draft(request: CreateMemberRequest) -> Result<MemberDraft, Error> {
    let member = request.member.unwrap_or_default();
    let allowed =
        Member { display_name: member.display_name.clone(), roles: member.roles.clone(), ..Default::default() };
    convert::refuse_output_only("member", &member, &allowed, "display_name and roles")?;
    let roles =
        member.roles.iter().map(|role| convert::to_role_binding("member.roles", role)).collect::<Result<_, _>>()?;
    MemberDraft::parse(&request.member_id, member.display_name, roles)
}
