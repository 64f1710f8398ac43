use keyward_domain::Revision;

/// The most findings that are kept. Further ones are only counted.
const MAX_KEPT: usize = 100;

/// The end of the log, as an operator keeps it to compare with a later log. A [`keyward_domain::Position`] without the epoch,
/// which an operator need not keep: the chain value alone identifies the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogHead {
    /// The newest revision.
    pub revision: Revision,
    /// The chain value at that revision.
    pub chain: [u8; 32],
}

impl LogHead {
    /// The end of an empty log.
    pub(super) const EMPTY: Self = Self { revision: Revision(0), chain: [0; 32] };
}

/// A difference between the database and what Keyward wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What differs: a revision, a resource name, or a table.
    pub subject: String,
    /// How it differs.
    pub problem: &'static str,
}

/// The result of [`crate::Store::verify_log`].
#[derive(Clone, Debug)]
pub struct Verification {
    /// The end of the log.
    pub head: LogHead,
    /// The number of entries that were checked.
    pub entries: u64,
    /// The number of rows that were checked.
    pub rows: u64,
    /// The first 100 findings.
    pub findings: Vec<Finding>,
    /// The number of all findings.
    pub finding_count: u64,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    pub(super) count: u64,
}

impl Findings {
    pub(super) fn add(&mut self, subject: impl Into<String>, problem: &'static str) {
        self.count += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(Finding { subject: subject.into(), problem });
        }
    }

    pub(super) fn into_verification(self, head: LogHead, entries: u64, rows: u64) -> Verification {
        Verification { head, entries, rows, findings: self.kept, finding_count: self.count }
    }
}
