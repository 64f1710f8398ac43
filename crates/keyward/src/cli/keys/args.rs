//! Arguments that several commands about keys share.

use clap::{Args, ValueEnum};
use keyward_runtime::config::Span;

use crate::cli::client::{ClientOptions, Session, project_name};

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
    pub(super) project: String,
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
    /// `None`: never.
    pub(super) fn time(&self) -> Option<prost_types::Timestamp> {
        self.after.map(|after| (std::time::SystemTime::now() + after.0).into()).or(self.at)
    }
}

fn instant_of(text: &str) -> Result<prost_types::Timestamp, &'static str> {
    text.parse().map_err(|_| "an instant is written as 2027-01-31T00:00:00Z")
}
