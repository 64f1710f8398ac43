//! Commands that read keys.

use std::path::Path;

use keyward_proto::admin::key::State;
use keyward_proto::admin::{GetKeyRequest, Key, ListKeysRequest, LookupKeyRequest, RevealTokenRequest};
use keyward_runtime::telemetry::note;

use crate::cli::client::{ClientOptions, Session};
use crate::cli::output::{instant, last_part, line};
use crate::cli::prompt;

pub(super) async fn list(session: &Session, parent: String, filter: String) -> anyhow::Result<()> {
    let (mut keys, mut request) =
        (Vec::new(), ListKeysRequest { parent, filter, page_size: 100, ..Default::default() });
    loop {
        let page = session.call(session.keys().list_keys(request.clone())).await?;
        keys.extend(page.keys);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    session.output.list(&keys, ["KEY", "STATE", "PLATFORM", "TOKEN", "CREATED", "CREATOR", "DESCRIPTION"], |key| {
        let (id, state) = (last_part(&key.name), state(key));
        let (platform, token, creator) = (key.platform.clone(), key.masked_token.clone(), key.creator.clone());
        [id.to_owned(), state.to_owned(), platform, token, instant(key.create_time), creator, key.description.clone()]
    })
}

pub(super) async fn get(session: &Session, name: String) -> anyhow::Result<()> {
    let key = session.call(session.keys().get_key(GetKeyRequest { name })).await?.key.unwrap_or_default();
    session.output.answer(&key, |key| {
        for (field, value) in fields(key) {
            if !value.is_empty() {
                line(&format!("{field:<16}{value}"))?;
            }
        }
        Ok(())
    })
}

fn fields(key: &Key) -> [(&'static str, String); 14] {
    let annotations: Vec<_> = key.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
    [
        ("key", last_part(&key.name).to_owned()),
        ("state", state(key).to_owned()),
        ("platform", key.platform.clone()),
        ("token", key.masked_token.clone()),
        ("description", key.description.clone()),
        ("annotations", annotations.join(", ")),
        ("created", instant(key.create_time)),
        ("creator", key.creator.clone()),
        ("expires", instant(key.expire_time)),
        ("ends", instant(key.scheduled_deactivate_time)),
        ("deactivated", instant(key.deactivate_time)),
        ("deactivator", key.deactivator.clone()),
        ("replaces", last_part(&key.replaces).to_owned()),
        ("replaced by", last_part(&key.replaced_by).to_owned()),
    ]
}

pub(super) async fn reveal(session: &Session, name: String) -> anyhow::Result<()> {
    let shown = session.call(session.keys().reveal_token(RevealTokenRequest { name })).await?;
    session.output.answer(&shown, |shown| line(&shown.token))
}

pub(super) async fn lookup(client: &ClientOptions, token_file: Option<&Path>) -> anyhow::Result<()> {
    let mut secret = prompt::secret("the token that was found", token_file)?;
    let session = client.connect().await?;
    let token = std::mem::take(&mut *secret);
    let key = session.call(session.keys().lookup_key(LookupKeyRequest { token })).await?.key.unwrap_or_default();
    session.output.answer(&key, |key| {
        line(&key.name)?;
        note(format_args!("{}, created by {}", state(key), key.creator));
        Ok(())
    })
}

/// The state of a key for display: also `expired`, and `ending` before a scheduled deactivation.
fn state(key: &Key) -> &'static str {
    let now = prost_types::Timestamp::from(std::time::SystemTime::now());
    let is_past = |time: prost_types::Timestamp| (time.seconds, time.nanos) <= (now.seconds, now.nanos);
    match key.state() {
        State::Active if key.expire_time.is_some_and(is_past) => "expired",
        State::Active if key.scheduled_deactivate_time.is_some() => "ending",
        State::Active => "active",
        State::Withheld => "withheld",
        State::Deactivated => "deactivated",
        State::Unspecified => "",
    }
}
