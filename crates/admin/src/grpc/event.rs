//! Entries of the change log as events, in words for people.

use std::collections::BTreeMap;

use keyward_domain::{
    Change, CredentialId, CredentialName, Event, Key, KeyName, KeyState, Member, MemberId, RoleBinding, Timestamp,
};
use keyward_proto::admin::{self, FieldChange, event::Type};
use keyward_runtime::wire;
use keyward_token::Digest;

use crate::app::App;

/// Names and texts of fields, in the order of their names. Fields without a text are left out.
type Fields = BTreeMap<&'static str, String>;

pub(super) fn event(app: &App, event: &Event) -> admin::Event {
    let details = event.change.as_ref().map(|change| details(app, change)).unwrap_or_default();
    let kind = event.change.as_ref().map(|change| format!("TYPE_{}", change.kind().to_ascii_uppercase()));
    let kind = kind.and_then(|name| Type::from_str_name(&name)).unwrap_or(Type::Unspecified);
    admin::Event {
        revision: event.revision.0,
        time: Some(wire::timestamp(event.time)),
        actor: event.actor.name(),
        r#type: kind.into(),
        resource: event.resource.clone(),
        related: details.related,
        changes: details.changes,
        credential_name: event.credential.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The part of an event that depends on the kind of change.
#[derive(Default)]
struct Details {
    related: Vec<String>,
    changes: Vec<FieldChange>,
}

impl Details {
    fn changing(before: &Fields, after: &Fields) -> Self {
        Self { related: Vec::new(), changes: differences(before, after, "") }
    }

    fn relating(mut self, name: impl Into<String>) -> Self {
        self.related.push(name.into());
        self
    }
}

fn details(app: &App, change: &Change) -> Details {
    let key = |key: &Key| key_fields(app, key);
    let none = Fields::new();
    match change {
        Change::ProjectCreated { project, default_key } => {
            let display_name = text(&project.display_name).map(|text| ("display_name", text));
            Details::changing(&none, &display_name.into_iter().collect()).relating(default_key.key.name.to_string())
        }
        Change::KeyCreated { key: record } => Details::changing(&none, &key(&record.key)),
        Change::KeyRotated { before, after, key: new } => {
            let mut details = Details::changing(&none, &key(&new.key)).relating(before.name.to_string());
            // The changes of the replaced key, which is the related one.
            details.changes.extend(differences(&key(before), &key(&after.key), "related."));
            details
        }
        Change::KeyUpdated { before, after }
        | Change::TokenRotated { before, after }
        | Change::KeyActivated { before, after }
        | Change::KeyDeactivated { before, after } => Details::changing(&key(before), &key(&after.key)),
        Change::TokenRevealed { .. } | Change::TokenReplayed { .. } => Details::default(),
        Change::MemberCreated { member, credential, .. } => {
            Details::changing(&none, &member_fields(member)).relating(credential_name(&member.id, credential))
        }
        Change::RoleGranted { role, .. } => Details::changing(&none, &role_field(role)),
        Change::RoleRevoked { role, .. } => Details::changing(&role_field(role), &none),
        Change::CredentialIssued { member, credential, .. }
        | Change::CredentialRevoked { member, credential }
        | Change::CredentialReplayed { member, credential, .. } => {
            Details::default().relating(credential_name(member, credential))
        }
        Change::HistoryForked { former, lost, known, epoch } => {
            let before = [("epoch", former.to_string())].into();
            let after = [
                ("epoch", epoch.to_string()),
                ("lost_epoch", lost.to_string()),
                ("lost_up_to_revision", known.to_string()),
            ];
            Details::changing(&before, &after.into())
        }
        Change::TokensWithheld { keys, tokens, .. } => {
            let details = Details::changing(&none, &[("tokens", tokens.len().to_string())].into());
            keys.iter().fold(details, |details, key| details.relating(key.to_string()))
        }
        Change::EpochAccepted { .. } => Details::default(),
    }
}

fn differences(before: &Fields, after: &Fields, prefix: &str) -> Vec<FieldChange> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let of = |fields: &Fields, name: &str| fields.get(name).cloned().unwrap_or_default();
    let change = |name: &&str| FieldChange {
        field: format!("{prefix}{name}"),
        before: of(before, name),
        after: of(after, name),
    };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

fn key_fields(app: &App, key: &Key) -> Fields {
    let state = match key.state {
        KeyState::Active => "ACTIVE",
        KeyState::Deactivated => "DEACTIVATED",
    };
    let sibling = |id| KeyName { project: key.name.project.clone(), key: id }.to_string();
    let annotations: Vec<_> = key.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = [
        ("state", Some(state.to_owned())),
        ("description", text(&key.description)),
        ("platform", Some(key.platform.as_str().to_owned())),
        ("masked_token", Some(app.secrets.format().mask(key.platform.token_kind(), &key.last4))),
        ("expire_time", key.expire_time.map(time)),
        ("scheduled_deactivate_time", key.schedule.as_ref().map(|schedule| time(schedule.time))),
        ("replaces", key.replaces.clone().map(sibling)),
        ("replaced_by", key.replaced_by.clone().map(sibling)),
        ("annotations", text(&annotations.join(", "))),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn member_fields(member: &Member) -> Fields {
    let roles: Vec<_> = member.roles.iter().map(role).collect();
    let fields = [("display_name", text(&member.display_name)), ("roles", text(&roles.join(", ")))];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn role_field(binding: &RoleBinding) -> Fields {
    [("role", role(binding))].into()
}

/// A role binding such as `editor on projects/6666`.
fn role(binding: &RoleBinding) -> String {
    match &binding.project {
        Some(project) => format!("{} on {}", binding.role, project.name()),
        None => binding.role.to_string(),
    }
}

fn credential_name(member: &MemberId, digest: &Digest) -> String {
    CredentialName { member: member.clone(), id: CredentialId::of(digest) }.to_string()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn time(time: Timestamp) -> String {
    wire::timestamp(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_change_are_the_event_types_of_the_contract() {
        let named: Vec<_> = Change::KINDS
            .iter()
            .map(|kind| Type::from_str_name(&format!("TYPE_{}", kind.to_ascii_uppercase())))
            .collect();
        assert!(named.iter().all(Option::is_some), "{named:?}");
        // The types are numbered without a gap, from 1.
        assert!(Type::try_from(Change::KINDS.len() as i32).is_ok());
        assert!(Type::try_from(Change::KINDS.len() as i32 + 1).is_err());
    }
}
