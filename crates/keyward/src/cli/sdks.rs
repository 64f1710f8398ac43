use anyhow::bail;
use clap::Subcommand;
use keyward_proto::admin::sdk::State;
use keyward_proto::admin::{ListSdksRequest, Sdk};

use crate::cli::client::{ClientOptions, Session};
use crate::cli::exit::Failure;
use crate::cli::output::{last_part, line};

/// Commands about the setup grid.
#[derive(Debug, Subcommand)]
pub(crate) enum Sdks {
    /// Lists the SDKs and tools that can use a key.
    List {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Prints the setup snippet of an SDK. Only the snippet is printed to stdout.
    Show {
        /// Id of the SDK, such as go or http.
        sdk: String,
        #[command(flatten)]
        client: ClientOptions,
    },
}

impl Sdks {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { client } => {
                let session = client.connect().await?;
                let sdks = all(&session).await?;
                session.output.list(&sdks, ["SDK", "NAME", "STATE", "PLATFORM"], |sdk| {
                    [last_part(&sdk.name), &sdk.display_name, state(sdk), &sdk.platform].map(str::to_owned)
                })?;
                session.output.hint("next: keyward sdks show http");
                Ok(())
            }
            Self::Show { sdk, client } => show(&client.connect().await?, &sdk).await,
        }
    }
}

async fn all(session: &Session) -> anyhow::Result<Vec<Sdk>> {
    Ok(session.call(session.sdks().list_sdks(ListSdksRequest {})).await?.sdks)
}

async fn show(session: &Session, id: &str) -> anyhow::Result<()> {
    let sdks = all(session).await?;
    let Some(sdk) = sdks.iter().find(|sdk| last_part(&sdk.name) == id) else {
        return Err(Failure::NotFound(format!("no SDK {id}: `keyward sdks list` lists them")).into());
    };
    session.output.answer(sdk, |sdk| {
        if sdk.snippets.is_empty() {
            bail!("{} is coming soon", sdk.display_name);
        }
        for snippet in &sdk.snippets {
            line(snippet.text.trim_end())?;
        }
        Ok(())
    })
}

fn state(sdk: &Sdk) -> &'static str {
    match sdk.state() {
        State::Ready => "ready",
        State::ComingSoon => "coming soon",
        State::Unspecified => "",
    }
}
