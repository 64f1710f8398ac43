use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use keyward_proto::admin::audit_service_client::AuditServiceClient;
use keyward_proto::admin::key_service_client::KeyServiceClient;
use keyward_proto::admin::member_service_client::MemberServiceClient;
use keyward_proto::admin::project_service_client::ProjectServiceClient;
use keyward_proto::admin::sdk_service_client::SdkServiceClient;
use keyward_runtime::config::{Faults, admins};
use keyward_runtime::environment::variable;
use keyward_runtime::secret_file::{self, Holds};
use keyward_token::TokenFormat;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::cli::reach::reach;
use crate::defaults;

/// Options of every command that calls the admin.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientOptions {
    /// Address of an admin. Repeatable: the next admin is tried when one cannot be reached or is not ready.
    #[arg(long, env = "KEYWARD_ADMIN", value_delimiter = ',', value_name = "URL", default_value = defaults::ADMIN,
        hide_env_values = true)]
    admin: Vec<String>,
    /// File that holds a member's credential. Default: root.credential in $KEYWARD_DATA_DIR, or else in
    /// keyward-data.
    #[arg(long, env = "KEYWARD_CREDENTIAL_FILE", value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Allow an admin on another machine, which receives the credential in plaintext. For private networks only.
    #[arg(long, env = "KEYWARD_INSECURE_PLAINTEXT", value_parser = clap::builder::BoolishValueParser::new())]
    insecure_plaintext: bool,
    /// Print the API's messages as JSON on stdout; lists as arrays.
    #[arg(long)]
    json: bool,
}

/// A connection to the admin as a member, and the format of answers.
#[derive(Clone)]
pub(crate) struct Session {
    transport: Transport,
    pub(super) output: Output,
}

/// Adds the credential to every call.
#[derive(Clone)]
pub(crate) struct Credential(MetadataValue<Ascii>);

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The transport of the generated clients.
pub(crate) type Transport = InterceptedService<Channel, Credential>;

impl ClientOptions {
    /// Connects to the admin.
    pub(crate) async fn connect(&self) -> anyhow::Result<Session> {
        let mut faults = Faults::default();
        let admins = admins(&self.admin, self.insecure_plaintext, &mut faults);
        let admins = faults.into_result(admins).map_err(|faults| Failure::Usage(faults.to_string().into()))?;
        let credential = self.credential()?;
        let channel = reach(&admins).await?;
        let transport = InterceptedService::new(channel, credential);
        Ok(Session { transport, output: Output { json: self.json } })
    }

    fn credential(&self) -> anyhow::Result<Credential> {
        let file = self.credential_file.clone().unwrap_or_else(|| {
            let dir = variable("KEYWARD_DATA_DIR").map_or_else(|| defaults::DATA_DIR.into(), PathBuf::from);
            dir.join("root.credential")
        });
        let text = secret_file::read_logged(&file, Holds::Secret).map_err(|error| {
            let hint = if error.is_not_found() { "; set --credential-file to the file of a credential" } else { "" };
            Failure::NoCredential(format!("{error}{hint}"))
        })?;
        let format = TokenFormat::default();
        let credential = format.member_credential(&text);
        let credential = credential.map_err(|fault| Failure::NoCredential(format!("{} {fault}", file.display())))?;
        let text = zeroize::Zeroizing::new(["Bearer ", credential.text()].concat());
        let mut value: MetadataValue<Ascii> = text.parse().context("the credential does not fit into a header")?;
        value.set_sensitive(true);
        Ok(Credential(value))
    }
}

impl Session {
    /// Awaits a call and returns its answer.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        call.await.map(tonic::Response::into_inner).map_err(Failure::Refused)
    }

    pub(super) fn projects(&self) -> ProjectServiceClient<Transport> {
        ProjectServiceClient::new(self.transport.clone())
    }

    pub(super) fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::new(self.transport.clone())
    }

    pub(super) fn members(&self) -> MemberServiceClient<Transport> {
        MemberServiceClient::new(self.transport.clone())
    }

    pub(super) fn audit(&self) -> AuditServiceClient<Transport> {
        AuditServiceClient::new(self.transport.clone())
    }

    pub(super) fn sdks(&self) -> SdkServiceClient<Transport> {
        SdkServiceClient::new(self.transport.clone())
    }
}

/// Returns a new request id. The admin runs a request of one id once, so a retry is safe.
pub(super) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Returns the resource name of a project that is given as `6666` or `projects/6666`.
pub(crate) fn project_name(project: &str) -> String {
    if project.starts_with("projects/") { project.to_owned() } else { format!("projects/{project}") }
}
