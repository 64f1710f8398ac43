//! Converts rows to domain types and back.

use std::collections::BTreeMap;

use keyward_domain::{
    Credential, CredentialId, CredentialName, Entry, Error, Event, Key, KeyEntry, KeyId, KeyName, KeyState,
    LoggedChange, Member, MemberId, Platform, Project, ProjectId, Revision, Role, RoleBinding, Schedule, Timestamp,
    TokenEntry, TokenRecord, WithheldToken,
};
use keyward_token::Digest;
use sea_orm::ActiveValue::Set;

use crate::entity::{change, credential, key, key_token, member, project, role_binding, withheld_token};
use crate::error::corrupt;

const ACTIVE: &str = "active";
const DEACTIVATED: &str = "deactivated";

pub(crate) fn to_project(row: project::Model) -> Project {
    Project {
        id: ProjectId::from_store(row.project_id),
        uid: row.uid.into(),
        display_name: row.display_name,
        creator: MemberId::from_store(row.creator),
        create_time: Timestamp::from_micros(row.create_time),
        create_revision: Revision(row.create_revision),
    }
}

pub(crate) fn from_project(project: &Project) -> project::ActiveModel {
    project::ActiveModel {
        project_id: Set(project.id.to_string()),
        uid: Set(project.uid.into()),
        display_name: Set(project.display_name.clone()),
        creator: Set(project.creator.to_string()),
        create_time: Set(project.create_time.as_micros()),
        create_revision: Set(project.create_revision.0),
    }
}

pub(crate) fn to_key(row: key::Model) -> Result<Key, Error> {
    Ok(Key {
        uid: row.uid.into(),
        name: KeyName { project: ProjectId::from_store(row.project_id), key: KeyId::from_store(row.key_id) },
        state: to_state(&row.state)?,
        default_key: row.default_key,
        description: row.description,
        platform: to_platform(&row.platform)?,
        last4: row.last4,
        creator: MemberId::from_store(row.creator),
        create_time: Timestamp::from_micros(row.create_time),
        update_time: Timestamp::from_micros(row.update_time),
        deactivator: row.deactivator.map(MemberId::from_store),
        deactivate_time: row.deactivate_time.map(Timestamp::from_micros),
        expire_time: row.expire_time.map(Timestamp::from_micros),
        schedule: to_schedule(row.scheduled_deactivate_time, row.scheduler)?,
        replaces: row.replaces.map(KeyId::from_store),
        replaced_by: row.replaced_by.map(KeyId::from_store),
        annotations: to_annotations(&row.annotations)?,
        create_revision: Revision(row.create_revision),
        revision: Revision(row.revision),
    })
}

pub(crate) fn from_key(key: &Key) -> Result<key::ActiveModel, Error> {
    Ok(key::ActiveModel {
        uid: Set(key.uid.into()),
        project_id: Set(key.name.project.to_string()),
        key_id: Set(key.name.key.to_string()),
        state: Set(from_state(key.state).to_owned()),
        default_key: Set(key.default_key),
        description: Set(key.description.clone()),
        platform: Set(key.platform.as_str().to_owned()),
        last4: Set(key.last4.clone()),
        creator: Set(key.creator.to_string()),
        create_time: Set(key.create_time.as_micros()),
        update_time: Set(key.update_time.as_micros()),
        deactivator: Set(key.deactivator.as_ref().map(ToString::to_string)),
        deactivate_time: Set(key.deactivate_time.map(Timestamp::as_micros)),
        expire_time: Set(key.expire_time.map(Timestamp::as_micros)),
        scheduled_deactivate_time: Set(key.schedule.as_ref().map(|schedule| schedule.time.as_micros())),
        scheduler: Set(key.schedule.as_ref().map(|schedule| schedule.by.to_string())),
        replaces: Set(key.replaces.as_ref().map(ToString::to_string)),
        replaced_by: Set(key.replaced_by.as_ref().map(ToString::to_string)),
        annotations: Set(serde_json::to_string(&key.annotations).map_err(corrupt)?),
        create_revision: Set(key.create_revision.0),
        revision: Set(key.revision.0),
    })
}

fn to_schedule(time: Option<i64>, by: Option<String>) -> Result<Option<Schedule>, Error> {
    match (time, by) {
        (None, None) => Ok(None),
        (Some(time), Some(by)) => {
            Ok(Some(Schedule { time: Timestamp::from_micros(time), by: MemberId::from_store(by) }))
        }
        _ => Err(corrupt("half a schedule")),
    }
}

/// What validators need of a key.
pub(crate) fn to_entry(row: key::Model, tokens: Vec<TokenEntry>) -> Result<KeyEntry, Error> {
    Ok(KeyEntry {
        uid: row.uid.into(),
        name: KeyName { project: ProjectId::from_store(row.project_id), key: KeyId::from_store(row.key_id) },
        platform: to_platform(&row.platform)?,
        active: to_state(&row.state)? == KeyState::Active,
        expire_time: row.expire_time.map(Timestamp::from_micros),
        tokens,
    })
}

pub(crate) fn to_token(row: &key_token::Model) -> Result<TokenEntry, Error> {
    Ok(TokenEntry {
        digest: to_digest(&row.digest)?,
        digest_key_id: u32::try_from(row.digest_key_id).map_err(corrupt)?,
        generation: u32::try_from(row.generation).map_err(corrupt)?,
        not_after: row.not_after.map(Timestamp::from_micros),
    })
}

/// A token with every column of its row. The sealed token is replaced by a fingerprint.
pub(crate) fn to_token_record(row: &key_token::Model) -> Result<TokenRecord, Error> {
    let is_sealed = row.sealed.is_some() || row.sealing_key_id.is_some();
    let sealed = is_sealed.then(|| fingerprint(row.sealing_key_id, row.sealed.as_deref().unwrap_or_default()));
    let create_time = Some(Timestamp::from_micros(row.create_time));
    Ok(TokenRecord { entry: to_token(row)?, create_time, sealed })
}

/// The fingerprint of a sealed token, which the log has in place of the token.
fn fingerprint(sealing_key_id: Option<i32>, bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sealing_key_id.unwrap_or_default().to_be_bytes()).update(bytes);
    hasher.finalize().to_hex().to_string()
}

pub(crate) fn to_member(row: member::Model, roles: Vec<role_binding::Model>) -> Result<Member, Error> {
    Ok(Member {
        id: MemberId::from_store(row.member_id),
        uid: row.uid.into(),
        display_name: row.display_name,
        roles: in_order(roles.into_iter().map(to_role).collect::<Result<_, _>>()?),
        creator: row.creator.map(MemberId::from_store),
        create_time: Timestamp::from_micros(row.create_time),
        create_revision: Revision(row.create_revision),
    })
}

pub(crate) fn from_member(member: &Member) -> member::ActiveModel {
    member::ActiveModel {
        member_id: Set(member.id.to_string()),
        uid: Set(member.uid.into()),
        display_name: Set(member.display_name.clone()),
        creator: Set(member.creator.as_ref().map(ToString::to_string)),
        create_time: Set(member.create_time.as_micros()),
        create_revision: Set(member.create_revision.0),
    }
}

pub(crate) fn to_credential(row: credential::Model) -> Result<Credential, Error> {
    let name =
        CredentialName { member: MemberId::from_store(row.member_id), id: CredentialId::of(&to_digest(&row.digest)?) };
    Ok(Credential { name, create_time: Timestamp::from_micros(row.create_time) })
}

/// Roles in the order of every answer. The databases return them in any order.
pub(crate) fn in_order(mut roles: Vec<RoleBinding>) -> Vec<RoleBinding> {
    roles.sort_by(|a, b| (a.role.as_str(), &a.project).cmp(&(b.role.as_str(), &b.project)));
    roles
}

pub(crate) fn to_role(row: role_binding::Model) -> Result<RoleBinding, Error> {
    let role = Role::from_name(&row.role).ok_or_else(|| corrupt(format!("role {}", row.role)))?;
    let project = (!row.project_id.is_empty()).then(|| ProjectId::from_store(row.project_id));
    Ok(RoleBinding { role, project })
}

pub(crate) fn from_role(member: &MemberId, binding: &RoleBinding) -> role_binding::ActiveModel {
    role_binding::ActiveModel {
        member_id: Set(member.to_string()),
        role: Set(binding.role.as_str().to_owned()),
        project_id: Set(binding.project.as_ref().map(ToString::to_string).unwrap_or_default()),
    }
}

pub(crate) fn to_change(row: change::Model) -> Result<LoggedChange, Error> {
    Ok(LoggedChange {
        revision: Revision(row.revision),
        chain: to_chain(&row.chain)?,
        time: Timestamp::from_micros(row.time),
        actor: MemberId::from_store(row.actor),
        change: Entry::from_json(&row.change).map_err(corrupt)?.change,
    })
}

/// `entry`: the content of the row, if this version can read it. `credential`: the one by which the change was made.
pub(crate) fn to_event(row: change::Model, entry: Option<Entry>, credential: Option<CredentialName>) -> Event {
    Event {
        revision: Revision(row.revision),
        time: Timestamp::from_micros(row.time),
        actor: MemberId::from_store(row.actor),
        credential,
        resource: row.resource,
        change: entry.map(|entry| entry.change),
    }
}

pub(crate) fn to_withheld(row: &withheld_token::Model) -> Result<WithheldToken, Error> {
    let from = Timestamp::from_micros(row.refused_from);
    Ok(WithheldToken { key: row.key_uid.into(), digest: to_digest(&row.digest)?, from })
}

pub(crate) fn from_withheld(token: &WithheldToken) -> withheld_token::ActiveModel {
    withheld_token::ActiveModel {
        digest: Set(token.digest.as_bytes().to_vec()),
        key_uid: Set(token.key.into()),
        refused_from: Set(token.from.as_micros()),
    }
}

pub(crate) fn to_chain(bytes: &[u8]) -> Result<[u8; 32], Error> {
    <[u8; 32]>::try_from(bytes).map_err(|_| corrupt("chain value is not 32 bytes"))
}

pub(crate) fn to_digest(bytes: &[u8]) -> Result<Digest, Error> {
    Digest::try_from(bytes).map_err(|_| corrupt("digest is not 32 bytes"))
}

fn to_state(state: &str) -> Result<KeyState, Error> {
    match state {
        ACTIVE => Ok(KeyState::Active),
        DEACTIVATED => Ok(KeyState::Deactivated),
        other => Err(corrupt(format!("key state {other}"))),
    }
}

pub(crate) const fn from_state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => ACTIVE,
        KeyState::Deactivated => DEACTIVATED,
    }
}

fn to_platform(name: &str) -> Result<Platform, Error> {
    Platform::from_name(name).ok_or_else(|| corrupt(format!("platform {name}")))
}

fn to_annotations(text: &str) -> Result<BTreeMap<String, String>, Error> {
    serde_json::from_str(text).map_err(corrupt)
}
