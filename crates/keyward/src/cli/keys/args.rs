//! Options that several commands about keys share.

use clap::{Args, ValueEnum};
use keyward_runtime::config::Span;

use crate::cli::client::{ClientOptions, Session, project_name};

/// A key.
#[derive(Args, Clone, Debug)]
pub(crate) struct Named {
    /// Name of the key, such as server_prod.
    key: String,
    #[command(flatten)]
    scope: Scope,
}

/// The project, and the connection to the admin.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scope {
    /// Project of the key, such as 6666.
    #[arg(long)]
    pub(super) project: String,
    #[command(flatten)]
    client: ClientOptions,
}

/// The time at which a key expires.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Expiry {
    /// After this long, by this machine's clock, such as 90d.
    #[arg(long, value_name = "DURATION")]
    after: Option<Span>,
    /// At this time, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant_of)]
    at: Option<prost_types::Timestamp>,
    /// Never.
    #[arg(long)]
    never: bool,
}

/// Where a token is stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Platform {
    /// On servers, out of reach of users.
    Server,
    /// In an Android app.
    Android,
    /// In an iOS app.
    Ios,
    /// In a web page.
    Javascript,
}

impl Named {
    pub(super) async fn connect(&self) -> anyhow::Result<Session> {
        self.scope.connect().await
    }

    pub(super) fn name(&self) -> String {
        self.scope.name(&self.key)
    }
}

impl Scope {
    pub(super) async fn connect(&self) -> anyhow::Result<Session> {
        self.client.connect().await
    }

    pub(super) fn parent(&self) -> String {
        project_name(&self.project)
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("{}/keys/{key}", self.parent())
    }
}

impl Expiry {
    /// Returns the time, or `None` for never.
    pub(super) fn time(&self) -> Option<prost_types::Timestamp> {
        self.after.map(|after| (std::time::SystemTime::now() + after.0).into()).or(self.at)
    }
}

fn instant_of(text: &str) -> Result<prost_types::Timestamp, &'static str> {
    text.parse().map_err(|_| "a time is written in RFC 3339, such as 2027-01-31T00:00:00Z")
}
