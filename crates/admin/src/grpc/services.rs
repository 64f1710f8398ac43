use std::sync::Arc;

use keyward_domain::Error;
use keyward_proto::admin::audit_service_server::AuditService;
use keyward_proto::admin::key_service_server::KeyService;
use keyward_proto::admin::member_service_server::MemberService;
use keyward_proto::admin::project_service_server::ProjectService;
use keyward_proto::admin::sdk_service_server::SdkService;
use keyward_proto::admin::*;
use keyward_runtime::status;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::{
    accept_epoch, activate_key, create_key, create_member, create_project, deactivate_key, get_key, get_member,
    get_project, grant_role, issue_credential, list_events, list_keys, list_members, list_projects, list_sdks,
    lookup_key, reveal_token, revoke_credential, revoke_role, rotate_default_key, rotate_key, update_key, verify_log,
    wait_enforced, who_am_i,
};

/// `ProjectService`.
#[derive(Clone, Debug)]
pub(crate) struct ProjectApi(pub(crate) Arc<App>);

/// `KeyService`.
#[derive(Clone, Debug)]
pub(crate) struct KeyApi(pub(crate) Arc<App>);

/// `MemberService`.
#[derive(Clone, Debug)]
pub(crate) struct MemberApi(pub(crate) Arc<App>);

/// `SdkService`.
#[derive(Clone, Debug)]
pub(crate) struct SdkApi(pub(crate) Arc<App>);

/// `AuditService`.
#[derive(Clone, Debug)]
pub(crate) struct AuditApi(pub(crate) Arc<App>);

/// Runs a handler in a task of its own: a caller that hangs up cancels neither the commit nor the fence after it.
///
/// The message is there by now, which may be long after the head: whoever sent it is looked up again first.
async fn detached<Q, T, F>(
    app: Arc<App>,
    mut request: Request<Q>,
    handle: impl FnOnce(Arc<App>, Request<Q>) -> F + Send + 'static,
) -> Result<Response<T>, Status>
where
    Q: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let work = async move {
        let caller = app.look_again(&caller(&request)?).await?;
        request.extensions_mut().insert(caller);
        handle(app, request).await
    };
    match tokio::spawn(work).await {
        Ok(Ok(answer)) => Ok(Response::new(answer)),
        Ok(Err(error)) => Err(status::from_error(&error)),
        Err(broken) => Err(status::from_error(&Error::internal(format!("a handler broke: {broken}")))),
    }
}

/// Spells out a service whose every method has a file of its own.
macro_rules! service {
    ($service:ident for $api:ident { $($method:ident: $request:ident -> $response:ident,)* }) => {
        #[tonic::async_trait]
        impl $service for $api {
            $(
                async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    detached(Arc::clone(&self.0), request, $method::handle).await
                }
            )*
        }
    };
}

service!(ProjectService for ProjectApi {
    create_project: CreateProjectRequest -> CreateProjectResponse,
    get_project: GetProjectRequest -> GetProjectResponse,
    list_projects: ListProjectsRequest -> ListProjectsResponse,
});

service!(KeyService for KeyApi {
    create_key: CreateKeyRequest -> CreateKeyResponse,
    get_key: GetKeyRequest -> GetKeyResponse,
    list_keys: ListKeysRequest -> ListKeysResponse,
    update_key: UpdateKeyRequest -> UpdateKeyResponse,
    rotate_key: RotateKeyRequest -> RotateKeyResponse,
    rotate_default_key: RotateDefaultKeyRequest -> RotateDefaultKeyResponse,
    deactivate_key: DeactivateKeyRequest -> DeactivateKeyResponse,
    activate_key: ActivateKeyRequest -> ActivateKeyResponse,
    reveal_token: RevealTokenRequest -> RevealTokenResponse,
    lookup_key: LookupKeyRequest -> LookupKeyResponse,
    wait_enforced: WaitEnforcedRequest -> WaitEnforcedResponse,
});

service!(MemberService for MemberApi {
    create_member: CreateMemberRequest -> CreateMemberResponse,
    get_member: GetMemberRequest -> GetMemberResponse,
    list_members: ListMembersRequest -> ListMembersResponse,
    grant_role: GrantRoleRequest -> GrantRoleResponse,
    revoke_role: RevokeRoleRequest -> RevokeRoleResponse,
    issue_credential: IssueCredentialRequest -> IssueCredentialResponse,
    revoke_credential: RevokeCredentialRequest -> RevokeCredentialResponse,
    who_am_i: WhoAmIRequest -> WhoAmIResponse,
});

service!(AuditService for AuditApi {
    list_events: ListEventsRequest -> ListEventsResponse,
    verify_log: VerifyLogRequest -> VerifyLogResponse,
    accept_epoch: AcceptEpochRequest -> AcceptEpochResponse,
});

service!(SdkService for SdkApi {
    list_sdks: ListSdksRequest -> ListSdksResponse,
});
