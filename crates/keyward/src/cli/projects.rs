use clap::Subcommand;
use keyward_proto::admin::{CreateProjectRequest, GetProjectRequest, ListProjectsRequest, Project};
use keyward_runtime::telemetry::note;

use crate::cli::client::{ClientOptions, Session, project_name, request_id};
use crate::cli::output::{instant, last_part, line};

/// Commands about projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Projects {
    /// Creates a project with its default key. Only the token of that key is printed to stdout.
    Create {
        /// Id of the project: 1 to 32 letters and digits. Default: the next free number.
        project: Option<String>,
        /// Name for display.
        #[arg(long, default_value = "")]
        display_name: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Lists the projects that are visible to the member.
    List {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Shows a project.
    Get {
        /// Id of the project, such as 6666.
        project: String,
        #[command(flatten)]
        client: ClientOptions,
    },
}

impl Projects {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { project, display_name, client } => {
                create(&client.connect().await?, project.unwrap_or_default(), display_name).await
            }
            Self::List { client } => list(&client.connect().await?).await,
            Self::Get { project, client } => get(&client.connect().await?, &project).await,
        }
    }
}

async fn create(session: &Session, project_id: String, display_name: String) -> anyhow::Result<()> {
    let project = Some(Project { display_name, ..Default::default() });
    let request = CreateProjectRequest { project_id, project, request_id: request_id() };
    let created = session.call(session.projects().create_project(request)).await?;
    session.output.answer(&created, |created| {
        let project = created.project.clone().unwrap_or_default();
        let key = created.default_key.clone().unwrap_or_default();
        note(format_args!("created {} with its default key {}; token:", project.name, key.name));
        line(&created.default_token)?;
        let id = last_part(&project.name);
        session.output.hint(format!("next: keyward keys create server_prod --project {id}"));
        Ok(())
    })
}

async fn list(session: &Session) -> anyhow::Result<()> {
    let (mut projects, mut request) = (Vec::new(), ListProjectsRequest { page_size: 1_000, ..Default::default() });
    loop {
        let page = session.call(session.projects().list_projects(request.clone())).await?;
        projects.extend(page.projects);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    session.output.list(&projects, ["PROJECT", "CREATED", "CREATOR", "DISPLAY NAME"], row)?;
    if projects.is_empty() {
        session.output.hint("no project yet; create one: keyward projects create");
    }
    Ok(())
}

async fn get(session: &Session, project: &str) -> anyhow::Result<()> {
    let request = GetProjectRequest { name: project_name(project) };
    let project = session.call(session.projects().get_project(request)).await?.project.unwrap_or_default();
    session.output.answer(&project, |project| {
        for (field, value) in ["project", "created", "creator", "display name"].into_iter().zip(row(project)) {
            line(&format!("{field:<14}{value}"))?;
        }
        Ok(())
    })
}

fn row(project: &Project) -> [String; 4] {
    let id = last_part(&project.name).to_owned();
    [id, instant(project.create_time), project.creator.clone(), project.display_name.clone()]
}
