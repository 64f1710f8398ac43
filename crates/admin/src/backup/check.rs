//! The check of a database that goes into a backup, or comes out of one.

use anyhow::bail;
use keyward_domain::Position;
use keyward_store::{Store, Verification};
use keyward_token::Keyring;

/// The result of checking a database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub(super) head: Position,
    /// The number of log entries that were checked.
    pub(super) entries: u64,
    /// The number of rows that were checked.
    pub(super) rows: u64,
}

/// Checks that the database belongs to the keyring, and that its log and every row are as Keyward wrote them.
pub(super) async fn check(store: &Store, keyring: &Keyring) -> anyhow::Result<Checked> {
    store.check_keyring(&keyring.fingerprint()).await?;
    let head = store.head().await?;
    let Verification { entries, rows, findings, finding_count, .. } = store.verify_log(None).await?;
    if let Some(first) = findings.first() {
        let (subject, problem) = (&first.subject, first.problem);
        bail!("the database was changed outside Keyward: {finding_count} findings, the first at {subject}: {problem}");
    }
    Ok(Checked { head, entries, rows })
}
