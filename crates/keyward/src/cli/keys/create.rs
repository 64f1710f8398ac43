//! Commands that create tokens.

use clap::{Args, ValueEnum};
use keyward_proto::admin::{CreateKeyRequest, Key, RotateDefaultKeyRequest, RotateKeyRequest};
use keyward_runtime::config::Span;
use keyward_runtime::telemetry::note;

use super::args::{Platform, Scope};
use crate::cli::client::{Session, request_id};
use crate::cli::output::{arguments, instant, line};

/// Options of `keyward keys create`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Create {
    /// The key's name: letters, digits and underscores.
    key: String,
    /// What the key is for.
    #[arg(long, default_value = "")]
    description: String,
    /// Where the token is stored. It cannot be changed later.
    #[arg(long, value_enum, default_value = "server")]
    platform: Platform,
    /// Let the key expire after this long, by this machine's clock, such as 90d. Default: never.
    #[arg(long, value_name = "DURATION")]
    expire_after: Option<Span>,
    #[command(flatten)]
    scope: Scope,
}

impl Create {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let session = self.scope.connect().await?;
        let platform = self.platform.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let expire_time = self.expire_after.map(|after| (std::time::SystemTime::now() + after.0).into());
        let key = Key { description: self.description, platform, expire_time, ..Default::default() };
        let parent = self.scope.parent();
        let request = CreateKeyRequest { parent, key_id: self.key, key: Some(key), request_id: request_id() };
        let created = session.call(session.keys().create_key(request)).await?;
        session.output.answer(&created, |created| {
            let name = created.key.clone().unwrap_or_default().name;
            note(format_args!("created {name}, active at once; token:"));
            line(&created.token)?;
            session
                .output
                .hint(format!("next: keyward sdks show http, or keyward keys list --project {}", self.scope.project));
            Ok(())
        })
    }
}

pub(super) async fn rotate(
    session: &Session,
    name: String,
    new_key_id: String,
    after: Option<Span>,
) -> anyhow::Result<()> {
    let deactivate_old_after = after.map(|span| prost_types::Duration::try_from(span.0)).transpose()?;
    let request = RotateKeyRequest { name, new_key_id, deactivate_old_after, request_id: request_id() };
    let done = session.call(session.keys().rotate_key(request)).await?;
    session.output.answer(&done, |done| {
        let (new, old) = (done.key.clone().unwrap_or_default(), done.old_key.clone().unwrap_or_default());
        note(format_args!("created {}, which replaces {}", new.name, old.name));
        let old_arguments = arguments(&old.name);
        match old.scheduled_deactivate_time {
            Some(time) => {
                note(format_args!(
                    "the old key is deactivated at {}; `keyward keys keep {old_arguments}` cancels that",
                    instant(Some(time))
                ));
            }
            None => note(format_args!(
                "the old key stays active; deactivate it with `keyward keys deactivate {old_arguments}`"
            )),
        }
        note(format_args!("token of the new key:"));
        line(&done.token)
    })
}

pub(super) async fn rotate_default(session: &Session, name: String, grace: Option<Span>) -> anyhow::Result<()> {
    let grace = grace.map(|span| prost_types::Duration::try_from(span.0)).transpose()?;
    let request = RotateDefaultKeyRequest { name, grace, request_id: request_id() };
    let done = session.call(session.keys().rotate_default_key(request)).await?;
    session.output.answer(&done, |done| {
        let name = done.key.clone().unwrap_or_default().name;
        note(format_args!("{name} has a new token"));
        if done.token.is_empty() {
            session.output.hint(format!(
                "next: an editor of the project reveals it with keyward keys reveal {}",
                arguments(&name)
            ));
            return Ok(());
        }
        note(format_args!("token, shown only now:"));
        line(&done.token)
    })
}
