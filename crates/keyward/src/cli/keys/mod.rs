mod change;
mod create;
mod read;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keyward_proto::admin::Key;
use keyward_proto::admin::key::State;
use keyward_runtime::config::Span;

use crate::cli::client::{ClientOptions, Session, project_name};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Creates a key and prints its token, alone, on stdout.
    Create(create::Create),
    /// Lists a project's keys.
    List {
        /// Only those that satisfy this, as 'state = ACTIVE AND name = "server_*"'.
        #[arg(long, default_value = "")]
        filter: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Shows a key.
    Get(Named),
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
    /// Gives a default key a new token. For support. Prints the token where it is not kept; otherwise an editor of the
    /// project reveals it.
    RotateDefault {
        /// The default key's name, as 6666_default_193444.
        key: String,
        /// For so long the old token is still accepted, as 24h. Default: not at all.
        #[arg(long, value_name = "DURATION")]
        grace: Option<Span>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Takes a scheduled deactivation back.
    Keep(Named),
    /// Changes what a key says.
    Describe {
        /// The key's name.
        key: String,
        /// What it is for; empty: nothing.
        description: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Lets a key expire, or takes that back. When it has returned, every validator knows.
    Expire {
        /// The key's name.
        key: String,
        #[command(flatten)]
        when: Expiry,
        #[command(flatten)]
        scope: Scope,
    },
    /// Prints a key's token, alone, on stdout. That it was shown is in the audit log.
    Reveal(Named),
    /// Tells which key a token belongs to. For support. The token is read from a file or from stdin, so that it is in no
    /// command line.
    Lookup {
        /// File whose first line is the token. Default: stdin.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Makes a deactivated key active again: the undo of a mistake.
    Activate(Named),
    /// Deactivates a key. When this has returned, every request with its token is refused.
    Deactivate(Named),
}

/// One key.
#[derive(Args, Clone, Debug)]
pub(crate) struct Named {
    /// The key's name.
    key: String,
    #[command(flatten)]
    scope: Scope,
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

/// When a key expires.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Expiry {
    /// So long from now, by this machine's clock, as 90d.
    #[arg(long, value_name = "DURATION")]
    after: Option<Span>,
    /// At an instant, as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant_of)]
    at: Option<prost_types::Timestamp>,
    /// Never.
    #[arg(long)]
    never: bool,
}

/// Where a token lives.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Platform {
    /// On servers; everything that is nobody's app.
    Server,
    /// In an Android app.
    Android,
    /// In an iOS app.
    Ios,
    /// In a web page.
    Javascript,
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List { filter, scope } => read::list(&scope.connect().await?, scope.parent(), filter).await,
            Self::Get(key) => read::get(&key.connect().await?, key.name()).await,
            Self::Rotate { key, to, deactivate_old_after, scope } => {
                create::rotate(&scope.connect().await?, scope.name(&key), to, deactivate_old_after).await
            }
            Self::RotateDefault { key, grace, scope } => {
                create::rotate_default(&scope.connect().await?, scope.name(&key), grace).await
            }
            Self::Keep(key) => change::keep(&key.connect().await?, key.name()).await,
            Self::Describe { key, description, scope } => {
                change::describe(&scope.connect().await?, scope.name(&key), description).await
            }
            Self::Expire { key, when, scope } => {
                change::expire(&scope.connect().await?, scope.name(&key), when.time()).await
            }
            Self::Reveal(key) => read::reveal(&key.connect().await?, key.name()).await,
            Self::Lookup { token_file, client } => read::lookup(&client, token_file.as_deref()).await,
            Self::Activate(key) => change::activate(&key.connect().await?, key.name()).await,
            Self::Deactivate(key) => change::deactivate(&key.connect().await?, key.name()).await,
        }
    }
}

impl Named {
    async fn connect(&self) -> anyhow::Result<Session> {
        self.scope.connect().await
    }

    fn name(&self) -> String {
        self.scope.name(&self.key)
    }
}

impl Scope {
    async fn connect(&self) -> anyhow::Result<Session> {
        self.client.connect().await
    }

    fn parent(&self) -> String {
        project_name(&self.project)
    }

    fn name(&self, key: &str) -> String {
        format!("{}/keys/{key}", self.parent())
    }
}

impl Expiry {
    /// `None`: never.
    fn time(&self) -> Option<prost_types::Timestamp> {
        self.after.map(|after| (std::time::SystemTime::now() + after.0).into()).or(self.at)
    }
}

fn instant_of(text: &str) -> Result<prost_types::Timestamp, &'static str> {
    text.parse().map_err(|_| "an instant is written as 2027-01-31T00:00:00Z")
}

/// What state people see.
fn state(key: &Key) -> &'static str {
    let now = prost_types::Timestamp::from(std::time::SystemTime::now());
    let is_past = |time: prost_types::Timestamp| (time.seconds, time.nanos) <= (now.seconds, now.nanos);
    match key.state() {
        State::Active if key.expire_time.is_some_and(is_past) => "expired",
        State::Active if key.scheduled_deactivate_time.is_some() => "ending",
        State::Active => "active",
        State::Deactivated => "deactivated",
        State::Unspecified => "",
    }
}
