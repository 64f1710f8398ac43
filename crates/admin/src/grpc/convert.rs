//! Domain types to messages of the wire, and the parts of requests that several methods share.

use std::ops::RangeInclusive;
use std::time::Duration;

use keyward_domain::{
    Error, Key, KeyId, KeyName, KeyState, Member, MemberId, OnField, Project, ProjectId, RequestId, Role, RoleBinding,
};
use keyward_proto::admin;
use keyward_runtime::wire;
use keyward_store::RequestStamp;
use keyward_token::Token;
use prost::Message;

use crate::app::{App, EnforcedBy, MemberView, Page, Receipt};

/// Encodes the items of a page, as many as fit into an answer. Returns them and the token of the next page.
pub(super) fn page<T, M: Message>(page: Page<'_, T>, render: impl Fn(&T) -> M) -> (Vec<M>, String) {
    page.fit(render, M::encoded_len)
}

pub(super) fn project(project: &Project) -> admin::Project {
    admin::Project {
        name: project.id.name(),
        uid: project.uid.to_string(),
        display_name: project.display_name.clone(),
        creator: project.creator.name(),
        create_time: Some(wire::timestamp(project.create_time)),
    }
}

pub(super) fn key(app: &App, key: &Key) -> admin::Key {
    let enforcement = if app.publisher.is_enforced(key.revision) {
        admin::key::Enforcement::Enforced
    } else {
        admin::key::Enforcement::Pending
    };
    let state = match key.state {
        KeyState::Active if app.publisher.is_withheld(&key.uid) => admin::key::State::Withheld,
        KeyState::Active => admin::key::State::Active,
        KeyState::Deactivated => admin::key::State::Deactivated,
    };
    admin::Key {
        name: key.name.to_string(),
        uid: key.uid.to_string(),
        state: state.into(),
        default_key: key.default_key,
        description: key.description.clone(),
        platform: key.platform.as_str().to_owned(),
        masked_token: app.secrets.format().mask(key.platform.token_kind(), &key.last4),
        creator: key.creator.name(),
        create_time: Some(wire::timestamp(key.create_time)),
        update_time: Some(wire::timestamp(key.update_time)),
        deactivator: key.deactivator.as_ref().map(MemberId::name).unwrap_or_default(),
        deactivate_time: key.deactivate_time.map(wire::timestamp),
        expire_time: key.expire_time.map(wire::timestamp),
        annotations: key.annotations.clone(),
        etag: key.etag(),
        revision: key.revision.0,
        enforcement: enforcement.into(),
        scheduled_deactivate_time: key.schedule.as_ref().map(|schedule| wire::timestamp(schedule.time)),
        replaces: sibling(key, key.replaces.as_ref()),
        replaced_by: sibling(key, key.replaced_by.as_ref()),
    }
}

/// The resource name of another key of the same project.
fn sibling(key: &Key, id: Option<&KeyId>) -> String {
    id.map(|id| KeyName { project: key.name.project.clone(), key: id.clone() }.to_string()).unwrap_or_default()
}

pub(super) fn member(member: &Member) -> admin::Member {
    admin::Member {
        name: member.id.name(),
        uid: member.uid.to_string(),
        display_name: member.display_name.clone(),
        roles: member.roles.iter().map(role_binding).collect(),
        creator: member.creator.as_ref().map(MemberId::name).unwrap_or_default(),
        create_time: Some(wire::timestamp(member.create_time)),
        credentials: Vec::new(),
    }
}

pub(super) fn member_view(view: &MemberView) -> admin::Member {
    let credentials = view.credentials.iter().map(|credential| admin::Credential {
        name: credential.name.to_string(),
        create_time: Some(wire::timestamp(credential.create_time)),
    });
    admin::Member { credentials: credentials.collect(), ..member(&view.member) }
}

fn role_binding(binding: &RoleBinding) -> admin::RoleBinding {
    let role = match binding.role {
        Role::Viewer => admin::Role::Viewer,
        Role::Editor => admin::Role::Editor,
        Role::Support => admin::Role::Support,
        Role::Owner => admin::Role::Owner,
        Role::Validator => admin::Role::Validator,
        Role::AdminNode => admin::Role::AdminNode,
    };
    let project = binding.project.as_ref().map(ProjectId::name).unwrap_or_default();
    admin::RoleBinding { role: role.into(), project }
}

/// A role binding of a request's field.
pub(super) fn to_role_binding(field: &str, binding: &admin::RoleBinding) -> Result<RoleBinding, Error> {
    let role = match binding.role() {
        admin::Role::Unspecified => return Err(Error::field(field, "one of the roles of the enum Role")),
        admin::Role::Viewer => Role::Viewer,
        admin::Role::Editor => Role::Editor,
        admin::Role::Support => Role::Support,
        admin::Role::Owner => Role::Owner,
        admin::Role::Validator => Role::Validator,
        admin::Role::AdminNode => Role::AdminNode,
    };
    let project = match binding.project.as_str() {
        "" => None,
        name => Some(ProjectId::parse_name(name).on_field(field)?),
    };
    RoleBinding::new(role, project).on_field(field)
}

pub(super) fn receipt(receipt: Receipt) -> admin::Receipt {
    let enforced_by = match receipt.enforced_by {
        EnforcedBy::Acks => admin::receipt::EnforcedBy::Acks,
        EnforcedBy::WaitOut => admin::receipt::EnforcedBy::WaitOut,
        EnforcedBy::Pending => admin::receipt::EnforcedBy::Pending,
    };
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    admin::Receipt {
        revision: receipt.revision.0,
        enforced_by: enforced_by.into(),
        validators_acked: count(receipt.acked),
        validators_lapsed: count(receipt.lapsed),
        elapsed: prost_types::Duration::try_from(receipt.elapsed).ok(),
    }
}

/// The text of a secret for an answer that carries it; empty if the answer to a retry has none.
pub(super) fn secret(token: Option<&Token>) -> String {
    token.map(|t| t.expose().to_owned()).unwrap_or_default()
}

/// How a retry of a request is recognized; `None` if it has no request id. `payload` is the request without its request id.
pub(super) fn stamp(
    method: &'static str,
    request_id: &str,
    payload: &impl Message,
) -> Result<Option<RequestStamp>, Error> {
    let id = RequestId::parse(request_id).on_field("request_id")?;
    Ok(id.map(|id| RequestStamp { method, id, payload: *blake3::hash(&payload.encode_to_vec()).as_bytes() }))
}

/// An instant of a request's field.
pub(super) fn instant(field: &str, time: &prost_types::Timestamp) -> Result<keyward_domain::Timestamp, Error> {
    wire::from_timestamp(time).ok_or_else(|| Error::field(field, "an instant of the years 1 to 9999"))
}

/// A duration of a request's field, which must be in `allowed`; `rule` describes that range.
pub(super) fn span(
    field: &str,
    span: &prost_types::Duration,
    allowed: RangeInclusive<Duration>,
    rule: &'static str,
) -> Result<Duration, Error> {
    let span = Duration::try_from(*span).ok().filter(|span| allowed.contains(span));
    span.ok_or_else(|| Error::field(field, rule))
}

/// Refuses a resource to create in which fields are set that only the server sets. `allowed` is the resource with nothing but
/// the fields that the caller may set, and `names` lists those.
pub(super) fn refuse_output_only<T: PartialEq>(field: &str, given: &T, allowed: &T, names: &str) -> Result<(), Error> {
    if given == allowed {
        Ok(())
    } else {
        Err(Error::field(field, format!("set in {names} only; the server sets the other fields")))
    }
}
