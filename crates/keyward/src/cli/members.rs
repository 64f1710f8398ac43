use clap::{Subcommand, ValueEnum};
use keyward_proto::admin::{
    self, CreateMemberRequest, GetMemberRequest, GrantRoleRequest, IssueCredentialRequest, ListMembersRequest, Member,
    RevokeCredentialRequest, RevokeRoleRequest, RoleBinding, WhoAmIRequest,
};
use keyward_runtime::telemetry::note;

use crate::cli::client::{ClientOptions, Session, project_name, request_id};
use crate::cli::exit::Usage;
use crate::cli::output::{instant, last_part, line};

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
    /// Lists members.
    List {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Shows a member with its roles and credentials.
    Get {
        /// Its id.
        member: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Gives a member one more role.
    Grant(RoleArgs),
    /// Takes a role from a member. When this has returned, nothing is done by that role any more.
    Revoke(RoleArgs),
    /// Makes one more credential of a member and prints it, alone, on stdout.
    IssueCredential {
        /// Its id.
        member: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Revokes a credential. When this has returned, every call with it is refused.
    RevokeCredential {
        /// Its name, as `keyward members get` shows it: members/alice/credentials/3f8a2c6e2b1d4b7e.
        credential: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Shows whose credential is in use, and what it may do.
    Whoami {
        #[command(flatten)]
        client: ClientOptions,
    },
}

/// A member and a role.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RoleArgs {
    /// The member's id.
    member: String,
    /// The role.
    #[arg(long, value_enum)]
    role: Role,
    /// The project that the roles viewer and editor are on.
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
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
        match self {
            Self::Create { member, role, project, display_name, client } => {
                let roles = bindings(&role, project.as_deref())?;
                let draft = Member { display_name, roles, ..Default::default() };
                create(&client.connect().await?, member, draft).await
            }
            Self::List { client } => list(&client.connect().await?).await,
            Self::Get { member, client } => get(&client.connect().await?, &member).await,
            Self::Grant(args) => grant(args).await,
            Self::Revoke(args) => revoke(args).await,
            Self::IssueCredential { member, client } => issue(&client.connect().await?, &member).await,
            Self::RevokeCredential { credential, client } => {
                revoke_credential(&client.connect().await?, credential).await
            }
            Self::Whoami { client } => who_am_i(&client.connect().await?).await,
        }
    }
}

async fn create(session: &Session, member_id: String, member: Member) -> anyhow::Result<()> {
    let request = CreateMemberRequest { member_id, member: Some(member), request_id: request_id() };
    let created = session.call(session.members().create_member(request)).await?;
    session.output.answer(&created, |created| {
        let name = created.member.clone().unwrap_or_default().name;
        note(format_args!("created {name}; its credential, shown this once, is:"));
        line(&created.credential)?;
        session.output.hint("next: keep it in a file of mode 0600, and name that with --credential-file");
        Ok(())
    })
}

async fn list(session: &Session) -> anyhow::Result<()> {
    let (mut members, mut request) = (Vec::new(), ListMembersRequest { page_size: 100, ..Default::default() });
    loop {
        let page = session.call(session.members().list_members(request.clone())).await?;
        members.extend(page.members);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    session.output.list(&members, ["MEMBER", "CREATED", "CREATOR", "ROLES", "DISPLAY NAME"], |member| {
        let id = last_part(&member.name).to_owned();
        [id, instant(member.create_time), member.creator.clone(), roles(member), member.display_name.clone()]
    })
}

async fn get(session: &Session, member: &str) -> anyhow::Result<()> {
    let request = GetMemberRequest { name: member_name(member) };
    let member = session.call(session.members().get_member(request)).await?.member.unwrap_or_default();
    session.output.answer(&member, told)
}

async fn grant(args: RoleArgs) -> anyhow::Result<()> {
    let (request, session) = args.connect().await?;
    let RevokeRoleRequest { name, role } = request;
    let granted = session.call(session.members().grant_role(GrantRoleRequest { name, role })).await?;
    session.output.answer(&granted, |granted| {
        let member = granted.member.clone().unwrap_or_default();
        note(format_args!("{} has now: {}", member.name, roles(&member)));
        Ok(())
    })
}

async fn revoke(args: RoleArgs) -> anyhow::Result<()> {
    let (request, session) = args.connect().await?;
    let revoked = session.call(session.members().revoke_role(request)).await?;
    session.output.answer(&revoked, |revoked| {
        let member = revoked.member.clone().unwrap_or_default();
        note(format_args!("{} has now: {}", member.name, roles(&member)));
        Ok(())
    })
}

async fn issue(session: &Session, member: &str) -> anyhow::Result<()> {
    let request = IssueCredentialRequest { name: member_name(member), request_id: request_id() };
    let issued = session.call(session.members().issue_credential(request)).await?;
    session.output.answer(&issued, |issued| {
        note(format_args!("issued {}; shown this once, it is:", issued.credential_name));
        line(&issued.credential)?;
        session.output.hint("next: when nothing uses the old one any more, keyward members revoke-credential NAME");
        Ok(())
    })
}

async fn revoke_credential(session: &Session, name: String) -> anyhow::Result<()> {
    let request = RevokeCredentialRequest { name: name.clone() };
    let revoked = session.call(session.members().revoke_credential(request)).await?;
    session.output.answer(&revoked, |_| {
        note(format_args!("revoked {name}"));
        Ok(())
    })
}

async fn who_am_i(session: &Session) -> anyhow::Result<()> {
    let member = session.call(session.members().who_am_i(WhoAmIRequest {})).await?.member.unwrap_or_default();
    session.output.answer(&member, told)
}

fn told(member: &Member) -> anyhow::Result<()> {
    line(&format!("member        {}", last_part(&member.name)))?;
    if !member.display_name.is_empty() {
        line(&format!("display name  {}", member.display_name))?;
    }
    line(&format!("created       {}", instant(member.create_time)))?;
    line(&format!("creator       {}", member.creator))?;
    line(&format!("roles         {}", roles(member)))?;
    for credential in &member.credentials {
        line(&format!("credential    {}  of {}", credential.name, instant(credential.create_time)))?;
    }
    Ok(())
}

fn roles(member: &Member) -> String {
    if member.roles.is_empty() {
        return "no role".to_owned();
    }
    let role = |binding: &RoleBinding| {
        let role = binding.role().as_str_name().trim_start_matches("ROLE_").to_lowercase();
        if binding.project.is_empty() { role } else { format!("{role} on {}", last_part(&binding.project)) }
    };
    member.roles.iter().map(role).collect::<Vec<_>>().join(", ")
}

fn member_name(member: &str) -> String {
    if member.starts_with("members/") { member.to_owned() } else { format!("members/{member}") }
}

/// The roles that a command line names.
fn bindings(roles: &[Role], project: Option<&str>) -> anyhow::Result<Vec<RoleBinding>> {
    let on_project = roles.iter().any(|role| matches!(role, Role::Viewer | Role::Editor));
    if on_project != project.is_some() {
        return Err(Usage("the roles viewer and editor need --project, and the other roles have none".into()).into());
    }
    let project = project.map(project_name);
    Ok(roles.iter().map(|role| role.binding(project.as_deref())).collect())
}

impl RoleArgs {
    async fn connect(self) -> anyhow::Result<(RevokeRoleRequest, Session)> {
        let role = bindings(&[self.role], self.project.as_deref())?.pop();
        let request = RevokeRoleRequest { name: member_name(&self.member), role };
        Ok((request, self.client.connect().await?))
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
