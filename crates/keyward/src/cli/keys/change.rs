//! Commands that change an existing key.

use keyward_proto::admin::key::State;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{ActivateKeyRequest, DeactivateKeyRequest, Key, Receipt, UpdateKeyRequest};
use keyward_runtime::telemetry::note;

use crate::cli::client::Session;
use crate::cli::output::{arguments, instant};

pub(super) async fn keep(session: &Session, name: String) -> anyhow::Result<()> {
    let key = Key { name, ..Default::default() };
    update(session, key, "scheduled_deactivate_time", |key| format!("{} has no scheduled deactivation", key.name)).await
}

pub(super) async fn describe(session: &Session, name: String, description: String) -> anyhow::Result<()> {
    let key = Key { name, description, ..Default::default() };
    update(session, key, "description", |key| format!("changed {}", key.name)).await
}

pub(super) async fn expire(
    session: &Session,
    name: String,
    expire_time: Option<prost_types::Timestamp>,
) -> anyhow::Result<()> {
    let key = Key { name, expire_time, ..Default::default() };
    update(session, key, "expire_time", |key| match key.expire_time {
        Some(time) => format!("{} expires at {}", key.name, instant(Some(time))),
        None => format!("{} does not expire", key.name),
    })
    .await
}

async fn update(session: &Session, key: Key, field: &str, confirmation: impl Fn(&Key) -> String) -> anyhow::Result<()> {
    let update_mask = Some(prost_types::FieldMask { paths: vec![field.to_owned()] });
    let done = session.call(session.keys().update_key(UpdateKeyRequest { key: Some(key), update_mask })).await?;
    session.output.answer(&done, |done| {
        note(format_args!("{}", confirmation(&done.key.clone().unwrap_or_default())));
        Ok(())
    })
}

pub(super) async fn activate(session: &Session, name: String) -> anyhow::Result<()> {
    let request = ActivateKeyRequest { name, etag: String::new() };
    let done = session.call(session.keys().activate_key(request)).await?;
    session.output.answer(&done, |done| {
        let key = done.key.clone().unwrap_or_default();
        match key.state() {
            State::Active => note(format_args!("{} is active, with the same token as before", key.name)),
            // The history forked while the call ran.
            _ => note(format_args!("{} is activated in the database, and its token stays withheld", key.name)),
        }
        Ok(())
    })
}

pub(super) async fn deactivate(session: &Session, name: String) -> anyhow::Result<()> {
    let request = DeactivateKeyRequest { name, etag: String::new() };
    let done = session.call(session.keys().deactivate_key(request)).await?;
    session.output.answer(&done, |done| {
        let (key, receipt) = (done.key.clone().unwrap_or_default(), done.receipt.unwrap_or_default());
        note(format_args!("deactivated {} at revision {}: {}", key.name, receipt.revision, enforced(&receipt)));
        session.output.hint(format!("undo: keyward keys activate {}", arguments(&key.name)));
        Ok(())
    })
}

fn enforced(receipt: &Receipt) -> String {
    let how = match receipt.enforced_by() {
        EnforcedBy::Acks => "every validator has acknowledged it",
        EnforcedBy::WaitOut => "no validator can answer from an older revision",
        EnforcedBy::Pending | EnforcedBy::Unspecified => "not yet enforced by all validators",
    };
    format!("{how} ({} acknowledged, {} lapsed)", receipt.validators_acked, receipt.validators_lapsed)
}
