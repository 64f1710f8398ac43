use keyward_domain::{Change, Position, ProjectId, Revision, Timestamp};
use keyward_token::DigestKey;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connection::Transaction;
use crate::convert::to_chain;
use crate::entity::{change, counter};
use crate::error::{TxError, corrupt};
use crate::verify::expected::Expected;
use crate::verify::{Findings, LogHead};
use crate::write::{chain_of, mac};

/// Entries read at once.
const PAGE: u64 = 2_000;

/// What is wrong with an entry that the platform made of rows which were not what it had written.
const FORGED: &str = "the entry does not follow from the ones before: its rows had been changed past Keyward";

/// What the log is.
pub(super) struct Log {
    pub(super) head: LogHead,
    pub(super) entries: u64,
    pub(super) expected: Expected,
}

/// Where the check has got to.
struct Walk<'a> {
    chain_key: &'a DigestKey,
    known: Option<LogHead>,
    findings: &'a mut Findings,
    at: LogHead,
    entries: u64,
    expected: Expected,
}

/// Walks through the whole log.
pub(super) async fn check(
    tx: &Transaction,
    chain_key: &DigestKey,
    known: Option<LogHead>,
    findings: &mut Findings,
) -> Result<Log, TxError> {
    let row = counter::Entity::find_by_id(1).one(tx).await?.ok_or_else(|| corrupt("no revision counter"))?;
    let head = LogHead { revision: Revision(row.revision), chain: to_chain(&row.chain).unwrap_or_default() };
    let made = mac(chain_key, &Position { epoch: row.epoch.into(), revision: head.revision, chain: head.chain });
    if row.mac.is_none_or(|mac| mac != made) {
        findings.add(format!("revision {}", head.revision), "the head was changed, or is of before 2026-11-24");
    }
    let at = LogHead { revision: Revision(0), chain: [0; 32] };
    let mut walk = Walk { chain_key, known, findings, at, entries: 0, expected: Expected::default() };
    // From before the first, so that entries which cannot be are seen too.
    let mut after = i64::MIN;
    loop {
        let rows = page(tx, after).await?;
        let Some(last) = rows.last() else { break };
        after = last.revision;
        for row in rows {
            walk.step(&row);
        }
    }
    if !walk.expected.ends_in(row.epoch.into()) {
        walk.findings.add(format!("revision {}", head.revision), "the head's epoch is not what the log says");
    }
    walk.end(head);
    Ok(Log { head, entries: walk.entries, expected: walk.expected })
}

async fn page(tx: &Transaction, after: i64) -> Result<Vec<change::Model>, DbErr> {
    change::Entity::find()
        .filter(change::Column::Revision.gt(after))
        .order_by_asc(change::Column::Revision)
        .limit(PAGE)
        .all(tx)
        .await
}

impl Walk<'_> {
    fn step(&mut self, row: &change::Model) {
        let revision = Revision(row.revision);
        let place = format!("revision {revision}");
        self.entries += 1;
        if revision.0 != self.at.revision.0.saturating_add(1) {
            self.findings.add(&place, "entries before this one are missing, or this is not its place");
        }
        let chain = to_chain(&row.chain).unwrap_or_default();
        if chain != chain_of(row, self.chain_key, &self.at.chain) {
            self.findings.add(&place, "the chain does not hold: this entry, or the chain before it, was changed");
        }
        if self.known.is_some_and(|known| known.revision == revision && known.chain != chain) {
            self.findings.add(&place, "the log has another history than the one whose head is known");
        }
        self.at = LogHead { revision, chain };
        match serde_json::from_str::<Change>(&row.change) {
            Ok(change) => {
                if row.project_id.as_deref() != change.project().map(ProjectId::as_str) {
                    self.findings.add(&place, "its column project_id is not what the entry says");
                }
                for resource in self.expected.apply(change, Timestamp::from_micros(row.time)) {
                    self.findings.add(format!("{place}, {resource}"), FORGED);
                }
            }
            Err(_) => self.findings.add(&place, "the entry cannot be read"),
        }
    }

    fn end(&mut self, head: LogHead) {
        if self.at != head {
            self.findings.add(format!("revision {}", head.revision), "the log does not end where its head says");
        }
        if self.known.is_some_and(|known| known.revision > self.at.revision) {
            self.findings.add(format!("revision {}", self.at.revision), "the log ends before the head that is known");
        }
    }
}
