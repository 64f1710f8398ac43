use clap::Subcommand;
use keyward_proto::admin::project_service_client::ProjectServiceClient;
use keyward_proto::admin::{CreateProjectRequest, Project};

use crate::cli::client::{ClientOptions, explain};

/// Commands about projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Projects {
    /// Creates a project with its default key, and prints that key's token.
    Create {
        /// 1 to 32 letters and digits; left out: the platform allocates the next free number.
        project: Option<String>,
        /// What people call it.
        #[arg(long, default_value = "")]
        display_name: String,
        #[command(flatten)]
        client: ClientOptions,
    },
}

impl Projects {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self::Create { project, display_name, client } = self;
        let request = CreateProjectRequest {
            project_id: project.unwrap_or_default(),
            project: Some(Project { display_name, ..Default::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut client = ProjectServiceClient::new(client.connect().await?);
        let created = client.create_project(request).await.map_err(|s| explain(&s))?.into_inner();
        let project = created.project.unwrap_or_default();
        let key = created.default_key.unwrap_or_default();
        eprintln!("created {} with its default key {}, whose token is:", project.name, key.name);
        println!("{}", created.default_token);
        Ok(())
    }
}
