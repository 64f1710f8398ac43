use std::collections::HashMap;

use keyward_domain::{KeyRecord, MemberId, Timestamp};
use sea_orm::{EntityTrait, PaginatorTrait, QueryOrder};
use uuid::Uuid;

use crate::connection::Transaction;
use crate::convert::{to_credential, to_digest, to_key, to_member, to_project, to_token_record, to_withheld};
use crate::entity::{credential, history_fork, key, key_token, member, project, role_binding, withheld_token};
use crate::error::TxError;
use crate::sql::image::{page_of_keys, tokens_between};
use crate::verify::expected::{Credential, Expected, Fork};
use crate::verify::report::Findings;

const DIFFERS: &str = "its row is not what the log says";
const MISSING: &str = "its row is missing";
const ORPHANED: &str = "has rows that belong to nothing";

/// Compares every row with the state that the log implies. Returns the number of rows.
pub(super) async fn check(tx: &Transaction, mut expected: Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let mut rows = projects(tx, &mut expected, findings).await?;
    rows += keys(tx, &mut expected, findings).await?;
    rows += members(tx, &mut expected, findings).await?;
    rows += credentials(tx, &mut expected, findings).await?;
    rows += forks(tx, &mut expected, findings).await?;
    for missing in expected.without_rows() {
        findings.add(missing, MISSING);
    }
    Ok(rows)
}

async fn projects(tx: &Transaction, expected: &mut Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let rows = project::Entity::find().order_by_asc(project::Column::CreateRevision).all(tx).await?;
    let count = rows.len();
    for row in rows {
        let project = to_project(row);
        if !expected.take_project(&project) {
            findings.add(project.id.name(), DIFFERS);
        }
    }
    Ok(count as u64)
}

async fn keys(tx: &Transaction, expected: &mut Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let (mut count, mut tokens_seen, mut after) = (0, 0, None);
    loop {
        let keys = page_of_keys(tx, after).await?;
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { break };
        let tokens = tokens_between(tx, first.uid, last.uid).await?;
        after = Some(last.uid);
        count += keys.len();
        let mut by_key: HashMap<Uuid, Vec<key_token::Model>> = HashMap::new();
        for token in tokens {
            by_key.entry(token.key_uid).or_default().push(token);
        }
        for row in keys {
            let own = by_key.remove(&row.uid).unwrap_or_default();
            tokens_seen += own.len();
            let name = format!("projects/{}/keys/{}", row.project_id, row.key_id);
            if !expected.take_key(row.uid.into(), read(row, &own)) {
                findings.add(name, DIFFERS);
            }
        }
    }
    if key_token::Entity::find().count(tx).await? != tokens_seen as u64 {
        findings.add("table key_token", ORPHANED);
    }
    Ok((count + tokens_seen) as u64)
}

/// The key and its tokens; `None` if a row is unreadable and therefore not what was written.
fn read(row: key::Model, tokens: &[key_token::Model]) -> Option<KeyRecord> {
    let tokens = tokens.iter().map(to_token_record).collect::<Result<Vec<_>, _>>().ok()?;
    Some(KeyRecord { key: to_key(row).ok()?, tokens })
}

async fn members(tx: &Transaction, expected: &mut Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let rows = member::Entity::find().order_by_asc(member::Column::CreateRevision).all(tx).await?;
    let bindings = role_binding::Entity::find().all(tx).await?;
    let count = rows.len() + bindings.len();
    let mut roles: HashMap<String, Vec<role_binding::Model>> = HashMap::new();
    for binding in bindings {
        roles.entry(binding.member_id.clone()).or_default().push(binding);
    }
    for row in rows {
        let (id, own) = (row.member_id.clone(), roles.remove(&row.member_id).unwrap_or_default());
        if !expected.take_member(&id, to_member(row, own).ok().as_ref()) {
            findings.add(format!("members/{id}"), DIFFERS);
        }
    }
    if !roles.is_empty() {
        findings.add("table role_binding", ORPHANED);
    }
    Ok(count as u64)
}

async fn forks(tx: &Transaction, expected: &mut Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let forks = history_fork::Entity::find().order_by_asc(history_fork::Column::Epoch).all(tx).await?;
    let withheld = withheld_token::Entity::find().order_by_asc(withheld_token::Column::Digest).all(tx).await?;
    let count = forks.len() + withheld.len();
    for row in forks {
        let accept_time = row.accept_time.map(Timestamp::from_micros);
        let time = Timestamp::from_micros(row.time);
        let fork = Fork { former: row.former.into(), lost: row.lost.into(), time, accept_time };
        if !expected.take_fork(&row.epoch.into(), &fork) {
            findings.add(format!("epochs/{}", row.epoch), DIFFERS);
        }
    }
    for row in withheld {
        if !to_withheld(&row).is_ok_and(|token| expected.take_withheld(&token)) {
            findings.add("table withheld_token", DIFFERS);
        }
    }
    Ok(count as u64)
}

async fn credentials(tx: &Transaction, expected: &mut Expected, findings: &mut Findings) -> Result<u64, TxError> {
    let rows = credential::Entity::find().order_by_asc(credential::Column::Digest).all(tx).await?;
    let count = rows.len();
    for row in rows {
        let name = to_credential(row.clone()).map_or_else(|_| "table credential".to_owned(), |c| c.name.to_string());
        let read = Credential {
            member: MemberId::from_store(row.member_id),
            create_time: Timestamp::from_micros(row.create_time),
            revoke_time: row.revoke_time.map(Timestamp::from_micros),
            digest_key_id: Some(row.digest_key_id.into()),
        };
        if !to_digest(&row.digest).is_ok_and(|digest| expected.take_credential(&digest, read)) {
            findings.add(name, DIFFERS);
        }
    }
    Ok(count as u64)
}
