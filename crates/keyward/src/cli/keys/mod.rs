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
    /// Creates a key. Only its token is printed to stdout.
    Create(create::Create),
    /// Lists the keys of a project.
    List {
        /// Only keys that match this filter, such as 'state = ACTIVE AND name = "server_*"'.
        #[arg(long, default_value = "")]
        filter: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Shows a key.
    Get(Named),
    /// Creates a key that replaces another one, which stays active. Only the new token is printed to stdout.
    Rotate {
        /// Name of the key to replace.
        key: String,
        /// Name of the new key.
        #[arg(long)]
        to: String,
        /// Deactivate the old key automatically after this long, such as 24h or 7d. Default: it stays active.
        #[arg(long, value_name = "DURATION")]
        deactivate_old_after: Option<Span>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Gives a default key a new token. Requires role support. The token is printed only if the server does not keep tokens;
    /// otherwise an editor of the project reveals it.
    RotateDefault {
        /// Name of the default key, such as 6666_default_193444.
        key: String,
        /// Accept the old token for this long, such as 24h. Default: not at all.
        #[arg(long, value_name = "DURATION")]
        grace: Option<Span>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Cancels the scheduled deactivation of a key.
    Keep(Named),
    /// Changes the description of a key.
    Describe {
        /// Name of the key, such as server_prod.
        key: String,
        /// What the key is for. Empty: no description.
        description: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Sets or removes the expiry of a key. Returns when every validator has the change.
    Expire {
        /// Name of the key, such as server_prod.
        key: String,
        #[command(flatten)]
        when: Expiry,
        #[command(flatten)]
        scope: Scope,
    },
    /// Prints the token of a key. Recorded in the audit log.
    Reveal(Named),
    /// Finds the key of a token. Requires role support. The token is read from a file or from stdin, which keeps it out of
    /// the command line.
    Lookup {
        /// File that has the token in its first line. Default: stdin.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Activates a deactivated key again, with the same token.
    Activate(Named),
    /// Deactivates a key. Returns when every request with its token is refused.
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
