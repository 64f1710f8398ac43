use clap::{Subcommand, ValueEnum};
use keyward_proto::admin::{
    self, CreateMemberRequest, GetMemberRequest, GrantRoleRequest, IssueCredentialRequest, ListMembersRequest, Member,
    RevokeCredentialRequest, RevokeRoleRequest, RoleBinding, WhoAmIRequest,
};
use keyward_runtime::telemetry::note;

use crate::cli::client::{ClientOptions, Session, project_name, request_id};
use crate::cli::exit::Failure;
use crate::cli::output::{instant, last_part, line};

/// Commands about members.
#[derive(Debug, Subcommand)]
pub(crate) enum Members {
    /// Creates a member. Only its credential is printed to stdout.
    Create {
        /// Id of the member, such as alice or edge-1.
        member: String,
        /// Role of the member. Repeatable.
        #[arg(long, value_enum, required = true)]
        role: Vec<Role>,
        /// Project of the roles viewer and editor, such as 6666.
        #[arg(long)]
        project: Option<String>,
        /// Name for display.
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
        /// Id of the member, such as alice.
        member: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Grants a role to a member.
    Grant(RoleArgs),
    /// Revokes a role of a member. Returns when no call is allowed by that role any more.
    Revoke(RoleArgs),
    /// Issues another credential to a member. Only the credential is printed to stdout.
    IssueCredential {
        /// Id of the member, such as alice.
        member: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Revokes a credential. Returns when every call with it is refused.
    RevokeCredential {
        /// Name of the credential, shown by `keyward members get`, such as members/alice/credentials/3f8a2c6e2b1d4b7e.
        credential: String,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Shows the member of the credential in use, and its roles.
    Whoami {
        #[command(flatten)]
        client: ClientOptions,
    },
}

/// A member and a role.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RoleArgs {
    /// Id of the member, such as alice.
    member: String,
    /// The role.
    #[arg(long, value_enum)]
    role: Role,
    /// Project of the roles viewer and editor, such as 6666.
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// On a project: read.
    Viewer,
    /// On a project: read and change.
    Editor,
    /// On the deployment: read everything, and help users: look tokens up, rotate default keys.
    Support,
    /// On the deployment: everything except LookupKey, RotateDefaultKey and PeerService.
    Owner,
    /// On the deployment: feed a validator.
    Validator,
    /// On the deployment: calls between admins.
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
        note(format_args!("created {name}; credential, shown only now:"));
        line(&created.credential)?;
        session.output.hint("next: store it in a file of mode 0600, and set --credential-file to that file");
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
    session.output.answer(&member, print)
}

async fn grant(args: RoleArgs) -> anyhow::Result<()> {
    let (request, session) = args.connect().await?;
    let RevokeRoleRequest { name, role } = request;
    let granted = session.call(session.members().grant_role(GrantRoleRequest { name, role })).await?;
    session.output.answer(&granted, |granted| {
        let member = granted.member.clone().unwrap_or_default();
        note(format_args!("{} now has: {}", member.name, roles(&member)));
        Ok(())
    })
}

async fn revoke(args: RoleArgs) -> anyhow::Result<()> {
    let (request, session) = args.connect().await?;
    let revoked = session.call(session.members().revoke_role(request)).await?;
    session.output.answer(&revoked, |revoked| {
        let member = revoked.member.clone().unwrap_or_default();
        note(format_args!("{} now has: {}", member.name, roles(&member)));
        Ok(())
    })
}

async fn issue(session: &Session, member: &str) -> anyhow::Result<()> {
    let request = IssueCredentialRequest { name: member_name(member), request_id: request_id() };
    let issued = session.call(session.members().issue_credential(request)).await?;
    session.output.answer(&issued, |issued| {
        note(format_args!("issued {}; credential, shown only now:", issued.credential_name));
        line(&issued.credential)?;
        session.output.hint("next: revoke the old one once it is unused: keyward members revoke-credential NAME");
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
    session.output.answer(&member, print)
}

fn print(member: &Member) -> anyhow::Result<()> {
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

/// Checks and returns the roles of a command line.
fn bindings(roles: &[Role], project: Option<&str>) -> anyhow::Result<Vec<RoleBinding>> {
    let on_project = roles.iter().any(|role| matches!(role, Role::Viewer | Role::Editor));
    if on_project != project.is_some() {
        return Err(Failure::Usage(
            "the roles viewer and editor need --project; the other roles do not take it".into(),
        )
        .into());
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
