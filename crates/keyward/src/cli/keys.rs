use std::io::{BufRead, IsTerminal, Read};

use clap::{Args, Subcommand};
use keyward_proto::admin::key::State;
use keyward_proto::admin::key_service_client::KeyServiceClient;
use keyward_proto::admin::{
    ActivateKeyRequest, CreateKeyRequest, DeactivateKeyRequest, Key, ListKeysRequest, LookupKeyRequest,
    RevealTokenRequest, RotateKeyRequest, UpdateKeyRequest,
};

use keyward_runtime::config::Span;

use crate::cli::client::{ClientOptions, Transport, explain, project_name};

/// No token is nearly so long.
const LONGEST_LINE: u64 = 1_024;

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Creates a key and prints its token, alone, on stdout.
    Create {
        /// The key's name: letters, digits and underscores.
        key: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Where the token will live: server, android, ios or javascript.
        #[arg(long, default_value = "server")]
        platform: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Lists a project's keys.
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Makes a key that replaces another one, and prints its token, alone, on stdout. The other one goes on beside it.
    Rotate {
        /// The name of the key to be replaced.
        key: String,
        /// The new key's name.
        #[arg(long)]
        to: String,
        /// So long from now the old key is deactivated by itself, as 24h or 7d.
        #[arg(long, value_name = "DURATION")]
        deactivate_old_after: Option<Span>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Takes a scheduled deactivation back.
    Keep {
        /// The key's name.
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Changes what a key says.
    Describe {
        /// The key's name.
        key: String,
        /// What it is for; empty: nothing.
        description: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Prints a key's token, alone, on stdout. That it was shown is in the audit log.
    Reveal {
        /// The key's name.
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Tells which key a token belongs to. The token is read from stdin, so that it is in no command line.
    Lookup {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Makes a deactivated key active again: the undo of a mistake.
    Activate {
        /// The key's name.
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Deactivates a key. When this has returned, every request with its token is refused.
    Deactivate {
        /// The key's name.
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
}

/// Which project, at which admin.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scope {
    /// The project that the key belongs to.
    #[arg(long)]
    project: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { key, description, platform, scope } => {
                let draft = Key { description, platform, ..Default::default() };
                create(scope.connect().await?, scope.parent(), key, draft).await
            }
            Self::Rotate { key, to, deactivate_old_after, scope } => {
                rotate(scope.connect().await?, scope.name(&key), to, deactivate_old_after).await
            }
            Self::Keep { key, scope } => keep(scope.connect().await?, scope.name(&key)).await,
            Self::Describe { key, description, scope } => {
                describe(scope.connect().await?, scope.name(&key), description).await
            }
            Self::Reveal { key, scope } => reveal(scope.connect().await?, scope.name(&key)).await,
            Self::Lookup { client } => lookup(KeyServiceClient::new(client.connect().await?)).await,
            Self::Activate { key, scope } => activate(scope.connect().await?, scope.name(&key)).await,
            Self::List { scope } => list(scope.connect().await?, scope.parent()).await,
            Self::Deactivate { key, scope } => deactivate(scope.connect().await?, scope.name(&key)).await,
        }
    }
}

impl Scope {
    async fn connect(&self) -> anyhow::Result<KeyServiceClient<Transport>> {
        Ok(KeyServiceClient::new(self.client.connect().await?))
    }

    fn parent(&self) -> String {
        project_name(&self.project)
    }

    fn name(&self, key: &str) -> String {
        format!("{}/keys/{key}", self.parent())
    }
}

async fn create(
    mut client: KeyServiceClient<Transport>,
    parent: String,
    key_id: String,
    key: Key,
) -> anyhow::Result<()> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = CreateKeyRequest { parent, key_id, key: Some(key), request_id };
    let created = client.create_key(request).await.map_err(|s| explain(&s))?.into_inner();
    let name = created.key.unwrap_or_default().name;
    eprintln!("created {name}, active at once; its token is:");
    println!("{}", created.token);
    Ok(())
}

fn state(key: &Key) -> &'static str {
    match key.state() {
        State::Active if key.scheduled_deactivate_time.is_some() => "ending",
        State::Active => "active",
        State::Deactivated => "deactivated",
        State::Unspecified => "",
    }
}

async fn list(mut client: KeyServiceClient<Transport>, parent: String) -> anyhow::Result<()> {
    println!("{:<40} {:<12} {:<12} {:<24} DESCRIPTION", "NAME", "STATE", "TOKEN", "CREATOR");
    let mut request = ListKeysRequest { parent, page_size: 100, ..Default::default() };
    loop {
        let page = client.list_keys(request.clone()).await.map_err(|s| explain(&s))?.into_inner();
        for key in &page.keys {
            let state = state(key);
            let name = key.name.rsplit('/').next().unwrap_or_default();
            println!("{name:<40} {state:<12} {:<12} {:<24} {}", key.masked_token, key.creator, key.description);
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

async fn rotate(
    mut client: KeyServiceClient<Transport>,
    name: String,
    new_key_id: String,
    after: Option<Span>,
) -> anyhow::Result<()> {
    let deactivate_old_after = after.map(|span| prost_types::Duration::try_from(span.0)).transpose()?;
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = RotateKeyRequest { name, new_key_id, deactivate_old_after, request_id };
    let done = client.rotate_key(request).await.map_err(|s| explain(&s))?.into_inner();
    let (new, old) = (done.key.unwrap_or_default(), done.old_key.unwrap_or_default());
    eprintln!("created {}, which replaces {}", new.name, old.name);
    match old.scheduled_deactivate_time {
        Some(time) => eprintln!("the old key is deactivated at {time}; `keyward keys keep` takes that back"),
        None => eprintln!("the old key stays active until `keyward keys deactivate`"),
    }
    eprintln!("the new key's token is:");
    println!("{}", done.token);
    Ok(())
}

async fn keep(mut client: KeyServiceClient<Transport>, name: String) -> anyhow::Result<()> {
    let key = Some(Key { name, ..Default::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["scheduled_deactivate_time".to_owned()] });
    let done = client.update_key(UpdateKeyRequest { key, update_mask }).await.map_err(|s| explain(&s))?.into_inner();
    eprintln!("{} is not deactivated by itself", done.key.unwrap_or_default().name);
    Ok(())
}

async fn describe(mut client: KeyServiceClient<Transport>, name: String, description: String) -> anyhow::Result<()> {
    let key = Some(Key { name, description, ..Default::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["description".to_owned()] });
    let done = client.update_key(UpdateKeyRequest { key, update_mask }).await.map_err(|s| explain(&s))?.into_inner();
    eprintln!("changed {}", done.key.unwrap_or_default().name);
    Ok(())
}

async fn reveal(mut client: KeyServiceClient<Transport>, name: String) -> anyhow::Result<()> {
    let shown = client.reveal_token(RevealTokenRequest { name }).await.map_err(|s| explain(&s))?.into_inner();
    println!("{}", shown.token);
    Ok(())
}

async fn lookup(mut client: KeyServiceClient<Transport>) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("paste the token, then press Enter:");
    }
    let mut token = String::new();
    std::io::stdin().lock().take(LONGEST_LINE).read_line(&mut token)?;
    let token = token.trim().to_owned();
    let found = client.lookup_key(LookupKeyRequest { token }).await.map_err(|s| explain(&s))?.into_inner();
    let key = found.key.unwrap_or_default();
    println!("{}", key.name);
    eprintln!("{}, created by {}", state(&key), key.creator);
    Ok(())
}

async fn activate(mut client: KeyServiceClient<Transport>, name: String) -> anyhow::Result<()> {
    let request = ActivateKeyRequest { name, etag: String::new() };
    let done = client.activate_key(request).await.map_err(|s| explain(&s))?.into_inner();
    eprintln!("{} is active, with the token that it had", done.key.unwrap_or_default().name);
    Ok(())
}

async fn deactivate(mut client: KeyServiceClient<Transport>, name: String) -> anyhow::Result<()> {
    let request = DeactivateKeyRequest { name, etag: String::new() };
    let done = client.deactivate_key(request).await.map_err(|s| explain(&s))?.into_inner();
    let (key, receipt) = (done.key.unwrap_or_default(), done.receipt.unwrap_or_default());
    eprintln!(
        "deactivated {} at revision {}; validators that acknowledged: {}, lapsed: {}",
        key.name, receipt.revision, receipt.validators_acked, receipt.validators_lapsed
    );
    Ok(())
}
