mod args;
mod change;
mod create;
mod read;

use std::path::PathBuf;

use args::{Expiry, Named, Scope};
use clap::Subcommand;
use keyward_runtime::config::Span;

use crate::cli::client::ClientOptions;

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
