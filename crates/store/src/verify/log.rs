use keyward_domain::{Entry, MemberId, Position, ProjectId, Revision, Timestamp};
use keyward_token::DigestKey;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connection::Transaction;
use crate::convert::to_chain;
use crate::entity::change;
use crate::error::{TxError, corrupt};
use crate::log::chain::chain_value;
use crate::log::head::{find_head, mac};
use crate::verify::expected::Expected;
use crate::verify::report::{Findings, LogHead};
use crate::verify::rights::objection;

/// Entries per query.
const PAGE: u64 = 2_000;

/// The problem of an entry that Keyward wrote over rows that it had not written.
const FORGED: &str = "the entry does not follow from the ones before: its rows had been changed outside Keyward";

/// The result of a walk through the log.
pub(super) struct Log {
    pub(super) head: LogHead,
    pub(super) entries: u64,
    pub(super) expected: Expected,
}

/// A walk through the log, entry by entry.
struct Walk<'a> {
    chain_key: &'a DigestKey,
    known: Option<LogHead>,
    findings: &'a mut Findings,
    /// The last entry checked.
    at: LogHead,
    entries: u64,
    expected: Expected,
}

/// Checks the head and every entry, and collects the state that the log implies.
pub(super) async fn check(
    tx: &Transaction,
    chain_key: &DigestKey,
    known: Option<LogHead>,
    findings: &mut Findings,
) -> Result<Log, TxError> {
    let row = find_head(tx).await?.ok_or_else(|| corrupt("no revision counter"))?;
    let epoch = row.epoch.into();
    let head = LogHead { revision: Revision(row.revision), chain: to_chain(&row.chain).unwrap_or_default() };
    let expected_mac = mac(chain_key, &Position { epoch, revision: head.revision, chain: head.chain });
    if row.mac.is_none_or(|mac| mac != expected_mac) {
        findings.add(revision_name(head.revision), "the head was changed, or is of before 2026-11-24");
    }
    let expected = Expected::default();
    let mut walk = Walk { chain_key, known, findings, at: LogHead::EMPTY, entries: 0, expected };
    // Starts below the first revision, to find entries with impossible revisions too.
    let mut after = i64::MIN;
    loop {
        let rows = page(tx, after).await?;
        let Some(last) = rows.last() else { break };
        after = last.revision;
        for row in rows {
            walk.step(&row);
        }
    }
    if !walk.expected.can_end_in(epoch) {
        walk.findings.add(revision_name(head.revision), "the head's epoch is not the epoch that the log ends in");
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

fn revision_name(revision: Revision) -> String {
    format!("revision {revision}")
}

impl Walk<'_> {
    fn step(&mut self, row: &change::Model) {
        let revision = Revision(row.revision);
        let subject = revision_name(revision);
        self.entries += 1;
        if revision.0 != self.at.revision.0.saturating_add(1) {
            self.findings.add(&subject, "entries before this one are missing, or this one is out of order");
        }
        let chain = to_chain(&row.chain).unwrap_or_default();
        if chain != chain_value(row, self.chain_key, &self.at.chain) {
            self.findings.add(&subject, "the chain does not hold: this entry, or the chain before it, was changed");
        }
        if self.known.is_some_and(|known| known.revision == revision && known.chain != chain) {
            self.findings.add(&subject, "the log has another history than the head that was given");
        }
        self.at = LogHead { revision, chain };
        match Entry::from_json(&row.change) {
            Ok(Entry { change, credential }) => {
                if row.project_id.as_deref() != change.project().map(ProjectId::as_str) {
                    self.findings.add(&subject, "its column project_id differs from the project in the entry");
                }
                let actor = MemberId::from_store(row.actor.clone());
                if let Some(problem) = objection(&self.expected, &actor, credential.as_ref(), &change) {
                    self.findings.add(format!("{subject}, {}", actor.name()), problem);
                }
                for resource in self.expected.apply(change, Timestamp::from_micros(row.time)) {
                    self.findings.add(format!("{subject}, {resource}"), FORGED);
                }
            }
            Err(_) => self.findings.add(&subject, "the entry cannot be read"),
        }
    }

    fn end(&mut self, head: LogHead) {
        if self.at != head {
            self.findings.add(revision_name(head.revision), "the log does not end at its head");
        }
        if self.known.is_some_and(|known| known.revision > self.at.revision) {
            self.findings.add(revision_name(self.at.revision), "the log ends before the head that was given");
        }
    }
}
