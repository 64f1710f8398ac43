use std::sync::Arc;

use keyward_domain::{CredentialName, Error, MemberDraft, MemberId, OnField};
use keyward_proto::admin::member_service_server::MemberService;
use keyward_proto::admin::{
    CreateMemberRequest, CreateMemberResponse, GetMemberRequest, GetMemberResponse, GrantRoleRequest,
    GrantRoleResponse, IssueCredentialRequest, IssueCredentialResponse, ListMembersRequest, ListMembersResponse,
    Member, RevokeCredentialRequest, RevokeCredentialResponse, RevokeRoleRequest, RevokeRoleResponse, WhoAmIRequest,
    WhoAmIResponse,
};

use crate::app::{App, PageRequest};
use crate::grpc::convert;
use crate::grpc::service::{Incoming, service};

service!(
    /// `MemberService`.
    MemberApi: MemberService {
        create_member: CreateMemberRequest -> CreateMemberResponse,
        get_member: GetMemberRequest -> GetMemberResponse,
        list_members: ListMembersRequest -> ListMembersResponse,
        grant_role: GrantRoleRequest -> GrantRoleResponse,
        revoke_role: RevokeRoleRequest -> RevokeRoleResponse,
        issue_credential: IssueCredentialRequest -> IssueCredentialResponse,
        revoke_credential: RevokeCredentialRequest -> RevokeCredentialResponse,
        who_am_i: WhoAmIRequest -> WhoAmIResponse,
    }
);

async fn create_member(
    app: Arc<App>,
    Incoming { caller, mut message, .. }: Incoming<CreateMemberRequest>,
) -> Result<CreateMemberResponse, Error> {
    let by = caller.on_platform()?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("CreateMember", &request_id, &message)?;
    let created = app.create_member(&by, draft(message)?, stamp).await?;
    Ok(CreateMemberResponse {
        member: Some(convert::member(&created.member)),
        credential: convert::secret(created.credential.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

async fn get_member(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<GetMemberRequest>,
) -> Result<GetMemberResponse, Error> {
    let id = name(&message.name)?;
    let view = app.get_member(&caller.on_platform()?, &id).await?;
    Ok(GetMemberResponse { member: Some(convert::member_view(&view)) })
}

async fn list_members(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<ListMembersRequest>,
) -> Result<ListMembersResponse, Error> {
    let ListMembersRequest { page_size, page_token } = message;
    let request = PageRequest { size: page_size, token: page_token };
    let page = app.list_members(&caller.on_platform()?, &request).await?;
    let (members, next_page_token) = convert::page(page, convert::member);
    Ok(ListMembersResponse { members, next_page_token })
}

async fn grant_role(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<GrantRoleRequest>,
) -> Result<GrantRoleResponse, Error> {
    let id = name(&message.name)?;
    let role = convert::to_role_binding("role", &message.role.unwrap_or_default())?;
    let (view, receipt) = app.grant_role(&caller.on_platform()?, &id, &role).await?;
    let (member, receipt) = (Some(convert::member_view(&view)), Some(convert::receipt(receipt)));
    Ok(GrantRoleResponse { member, receipt })
}

async fn revoke_role(
    app: Arc<App>,
    Incoming { caller, timeout, message }: Incoming<RevokeRoleRequest>,
) -> Result<RevokeRoleResponse, Error> {
    let id = name(&message.name)?;
    let role = convert::to_role_binding("role", &message.role.unwrap_or_default())?;
    let (view, receipt) = app.revoke_role(&caller.on_platform()?, &id, &role, timeout).await?;
    let (member, receipt) = (Some(convert::member_view(&view)), Some(convert::receipt(receipt)));
    Ok(RevokeRoleResponse { member, receipt })
}

async fn issue_credential(
    app: Arc<App>,
    Incoming { caller, mut message, .. }: Incoming<IssueCredentialRequest>,
) -> Result<IssueCredentialResponse, Error> {
    let id = name(&message.name)?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("IssueCredential", &request_id, &message)?;
    let issued = app.issue_credential(&caller.on_platform()?, &id, stamp).await?;
    Ok(IssueCredentialResponse {
        member: Some(convert::member_view(&issued.view)),
        credential: convert::secret(issued.credential.as_ref()),
        credential_name: issued.name.to_string(),
        receipt: Some(convert::receipt(issued.receipt)),
    })
}

async fn revoke_credential(
    app: Arc<App>,
    Incoming { caller, timeout, message }: Incoming<RevokeCredentialRequest>,
) -> Result<RevokeCredentialResponse, Error> {
    let name = CredentialName::parse(&message.name).on_field("name")?;
    let (view, receipt) = app.revoke_credential(&caller.on_platform()?, &name, timeout).await?;
    let (member, receipt) = (Some(convert::member_view(&view)), Some(convert::receipt(receipt)));
    Ok(RevokeCredentialResponse { member, receipt })
}

async fn who_am_i(_: Arc<App>, Incoming { caller, .. }: Incoming<WhoAmIRequest>) -> Result<WhoAmIResponse, Error> {
    Ok(WhoAmIResponse { member: Some(convert::member(&caller)) })
}

fn name(name: &str) -> Result<MemberId, Error> {
    MemberId::parse_name(name).on_field("name")
}

fn draft(message: CreateMemberRequest) -> Result<MemberDraft, Error> {
    let member = message.member.unwrap_or_default();
    let allowed =
        Member { display_name: member.display_name.clone(), roles: member.roles.clone(), ..Default::default() };
    convert::refuse_output_only("member", &member, &allowed, "display_name and roles")?;
    let roles =
        member.roles.iter().map(|role| convert::to_role_binding("member.roles", role)).collect::<Result<_, _>>()?;
    let id = MemberId::parse(&message.member_id).on_field("member_id")?;
    MemberDraft::new(id, member.display_name, roles).map_err(|error| error.within("member"))
}
