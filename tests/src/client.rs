//! gRPC clients of the admin and of validators.

use std::net::SocketAddr;

use keyward_proto::admin::audit_service_client::AuditServiceClient;
use keyward_proto::admin::key_service_client::KeyServiceClient;
use keyward_proto::admin::member_service_client::MemberServiceClient;
use keyward_proto::admin::project_service_client::ProjectServiceClient;
use keyward_proto::admin::sdk_service_client::SdkServiceClient;
use keyward_proto::admin::{
    CreateKeyRequest, CreateKeyResponse, CreateMemberRequest, CreateProjectRequest, CreateProjectResponse,
    DeactivateKeyRequest, DeactivateKeyResponse, Key, ListKeysRequest, Member, Role, RoleBinding,
};
use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::{
    BatchValidateTokensRequest, StreamValidateTokensRequest, StreamValidateTokensResponse, ValidateTokenRequest,
    ValidateTokenResponse, Verdict,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt;

/// Adds a credential to each call, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The transport of the generated clients: a channel that sends the credential.
pub type Transport = InterceptedService<Channel, Bearer>;

/// Clients of every service of the admin API, with one member's credential.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Projects.
    pub projects: ProjectServiceClient<Transport>,
    /// Keys.
    pub keys: KeyServiceClient<Transport>,
    /// Members.
    pub members: MemberServiceClient<Transport>,
    /// The change log.
    pub audit: AuditServiceClient<Transport>,
    /// The SDKs of the setup grid.
    pub sdks: SdkServiceClient<Transport>,
}

/// Connects to `at` without TLS.
///
/// # Panics
/// If nothing listens at `at`.
pub async fn channel(at: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap()
}

/// Returns a transport to `at` that sends the credential, if there is one.
pub async fn transport(at: SocketAddr, credential: Option<&str>) -> Transport {
    let value = credential.map(|credential| format!("Bearer {credential}").parse().unwrap());
    InterceptedService::new(channel(at).await, Bearer(value))
}

/// Returns a binding of `role` on one project.
pub fn on_project(role: Role, project: &str) -> RoleBinding {
    RoleBinding { role: role.into(), project: format!("projects/{project}") }
}

/// Returns a binding of `role` on the whole deployment.
pub fn on_platform(role: Role) -> RoleBinding {
    RoleBinding { role: role.into(), project: String::new() }
}

/// Returns a fresh request id.
pub fn request_id() -> String {
    keyward_domain::Uid::generate().to_string()
}

impl Admin {
    /// Connects with a member's credential. An empty credential sends none.
    pub async fn connect(at: SocketAddr, credential: &str) -> Self {
        let transport = transport(at, (!credential.is_empty()).then_some(credential)).await;
        Self {
            projects: ProjectServiceClient::new(transport.clone()),
            keys: KeyServiceClient::new(transport.clone()),
            members: MemberServiceClient::new(transport.clone()),
            audit: AuditServiceClient::new(transport.clone()),
            sdks: SdkServiceClient::new(transport),
        }
    }

    /// Creates a project.
    pub async fn create_project(&self, id: &str) -> Result<CreateProjectResponse, Status> {
        let request = CreateProjectRequest { project_id: id.to_owned(), ..Default::default() };
        Ok(self.projects.clone().create_project(request).await?.into_inner())
    }

    /// Creates a key.
    pub async fn create_key(&self, project: &str, key_id: &str) -> Result<CreateKeyResponse, Status> {
        self.create_key_as(project, key_id, Key::default()).await
    }

    /// Creates a key with the given fields besides its name.
    pub async fn create_key_as(&self, project: &str, key_id: &str, key: Key) -> Result<CreateKeyResponse, Status> {
        let request = CreateKeyRequest {
            parent: format!("projects/{project}"),
            key_id: key_id.to_owned(),
            key: Some(key),
            request_id: String::new(),
        };
        Ok(self.keys.clone().create_key(request).await?.into_inner())
    }

    /// Deactivates a key.
    pub async fn deactivate(&self, project: &str, key_id: &str) -> Result<DeactivateKeyResponse, Status> {
        let name = format!("projects/{project}/keys/{key_id}");
        let request = DeactivateKeyRequest { name, etag: String::new() };
        Ok(self.keys.clone().deactivate_key(request).await?.into_inner())
    }

    /// Lists all keys of a project, page by page.
    pub async fn list(&self, project: &str, page_size: i32) -> Result<Vec<Key>, Status> {
        let parent = format!("projects/{project}");
        let (mut keys, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListKeysRequest { parent: parent.clone(), page_size, page_token, ..Default::default() };
            let page = self.keys.clone().list_keys(request).await?.into_inner();
            keys.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(keys);
            }
            page_token = page.next_page_token;
        }
    }

    /// Creates a member and returns its credential.
    pub async fn create_member(&self, id: &str, roles: &[RoleBinding]) -> Result<String, Status> {
        let member = Some(Member { roles: roles.to_vec(), ..Default::default() });
        let request = CreateMemberRequest { member_id: id.to_owned(), member, request_id: String::new() };
        Ok(self.members.clone().create_member(request).await?.into_inner().credential)
    }
}

/// A client of one validator's `ValidateService`.
#[derive(Clone, Debug)]
pub struct ValidatorClient(ValidateServiceClient<Channel>);

impl ValidatorClient {
    /// Connects to a validator.
    pub async fn connect(at: SocketAddr) -> Self {
        Self(ValidateServiceClient::new(channel(at).await))
    }

    /// Validates a token, with every other field of the request at its default.
    pub async fn validate(&self, token: &str) -> Result<ValidateTokenResponse, Status> {
        self.validate_request(ValidateTokenRequest { token: token.to_owned(), ..Default::default() }).await
    }

    /// Sends a `ValidateToken` request.
    pub async fn validate_request(&self, request: ValidateTokenRequest) -> Result<ValidateTokenResponse, Status> {
        Ok(self.0.clone().validate_token(request).await?.into_inner())
    }

    /// Sends a `BatchValidateTokens` request.
    pub async fn batch(&self, requests: Vec<ValidateTokenRequest>) -> Result<Vec<ValidateTokenResponse>, Status> {
        let request = BatchValidateTokensRequest { requests };
        Ok(self.0.clone().batch_validate_tokens(request).await?.into_inner().responses)
    }

    /// Opens a `StreamValidateTokens` stream that sends the requests of a channel.
    pub async fn stream(
        &self,
        requests: mpsc::Receiver<StreamValidateTokensRequest>,
    ) -> Result<Streaming<StreamValidateTokensResponse>, Status> {
        Ok(self.0.clone().stream_validate_tokens(ReceiverStream::new(requests)).await?.into_inner())
    }

    /// Returns the verdict on a token.
    ///
    /// # Panics
    /// If the call fails.
    pub async fn verdict(&self, token: &str) -> Verdict {
        self.validate(token).await.unwrap().verdict()
    }
}

/// Returns the reason in the error's `ErrorInfo`.
///
/// # Panics
/// If there is no `ErrorInfo`: every error of Keyward has one.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}")).reason
}

/// Returns the first field violation of the error: the field and the rule.
///
/// # Panics
/// If there is none.
pub fn violation(status: &Status) -> (String, String) {
    let violations = status.get_details_bad_request().expect("a BadRequest").field_violations;
    let first = violations.into_iter().next().expect("a violation");
    (first.field, first.description)
}
