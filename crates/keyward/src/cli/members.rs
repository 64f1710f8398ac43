use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use keyward_proto::admin::member_service_client::MemberServiceClient;
use keyward_proto::admin::{self, CreateMemberRequest, Member, RoleBinding};

use crate::cli::client::{ClientOptions, explain, project_name};

/// Commands about members.
#[derive(Debug, Subcommand)]
pub(crate) enum Members {
    /// Creates a member and prints its credential, alone, on stdout.
    Create {
        /// Its id, as alice or edge-1.
        member: String,
        /// What it may do. Repeatable.
        #[arg(long, value_enum, required = true)]
        role: Vec<Role>,
        /// The project that the roles viewer and editor are on.
        #[arg(long)]
        project: Option<String>,
        /// What people call it.
        #[arg(long, default_value = "")]
        display_name: String,
        #[command(flatten)]
        client: ClientOptions,
    },
}

/// A role, as the command line names it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// On a project: look.
    Viewer,
    /// On a project: look and change.
    Editor,
    /// On the platform: look everywhere.
    Support,
    /// On the platform: everything but support's own methods.
    Owner,
    /// On the platform: feed a validator, nothing else.
    Validator,
    /// On the platform: admins among themselves, nothing else.
    AdminNode,
}

impl Members {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self::Create { member, role, project, display_name, client } = self;
        let on_project = role.iter().any(|r| matches!(r, Role::Viewer | Role::Editor));
        if on_project != project.is_some() {
            bail!("the roles viewer and editor need --project, and the other roles have none");
        }
        let project = project.as_deref().map(project_name);
        let roles = role.into_iter().map(|role| role.binding(project.as_deref())).collect();
        let request = CreateMemberRequest {
            member_id: member,
            member: Some(Member { display_name, roles, ..Default::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut client = MemberServiceClient::new(client.connect().await?);
        let created = client.create_member(request).await.map_err(|s| explain(&s))?.into_inner();
        eprintln!("created {}; its credential is:", created.member.unwrap_or_default().name);
        println!("{}", created.credential);
        Ok(())
    }
}

impl Role {
    fn binding(self, project: Option<&str>) -> RoleBinding {
        let (role, on_project) = match self {
            Self::Viewer => (admin::Role::Viewer, true),
            Self::Editor => (admin::Role::Editor, true),
            Self::Support => (admin::Role::Support, false),
            Self::Owner => (admin::Role::Owner, false),
            Self::Validator => (admin::Role::Validator, false),
            Self::AdminNode => (admin::Role::AdminNode, false),
        };
        let project = if on_project { project.unwrap_or_default().to_owned() } else { String::new() };
        RoleBinding { role: role.into(), project }
    }
}
