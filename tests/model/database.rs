//! The database: the change log, with every fork of it, and the rows of admin lives.

use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Epoch, Position, Revision};
use keyward_protocol::admin::{EntryKind, LogEntry};
use keyward_protocol::log::{EpochRecord, LogRelation};

/// What an entry of the log does to the one token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Nothing: it changes something else.
    Unrelated = 1,
    /// The token is refused from now on.
    Deactivated = 2,
    /// A new epoch begins.
    EpochBegan = 3,
    /// The token is withheld, because a lost history refused it.
    Withheld = 4,
    /// An owner accepts the epoch: nothing is withheld any more.
    EpochAccepted = 5,
    /// The token is withheld, because a validator reported that a lost history refused it.
    Reported = 6,
}

const KINDS: [Kind; 6] =
    [Kind::Unrelated, Kind::Deactivated, Kind::EpochBegan, Kind::Withheld, Kind::EpochAccepted, Kind::Reported];

/// The second half of a chain value holds, for each epoch that began, the epoch that was lost.
const LOST: usize = 16;

const FIRST: Epoch = Epoch::from_bytes([0; 16]);

/// The log up to a position. In this model the chain value does not only identify the log but is the log: its byte n is
/// the entry of revision n + 1, as kind and branch. Entries that were written on different sides of a restore are of
/// different branches, as entries of real logs have different chain values.
pub(crate) trait Log: Sized {
    /// The empty log of the first epoch.
    fn empty() -> Self;
    /// The kinds of all entries, in order.
    fn kinds(&self) -> impl Iterator<Item = Kind>;
    /// This log without the entries after `revision`.
    fn up_to(&self, revision: Revision) -> Self;
    /// This log with one more entry. `lost`: the lost epoch, if an epoch begins.
    fn with(&self, kind: Kind, branch: u8, lost: Epoch) -> Self;
    /// Returns `true` if this log contains the position `other`.
    fn contains(&self, other: &Self) -> bool;
    /// Returns `true` if the log records that `epoch` was current once, or that it was lost.
    fn records(&self, epoch: Epoch) -> bool;
    /// Returns `true` if the token is refused after the last entry.
    fn refuses(&self) -> bool;
    /// Returns `true` if the log never forked, or an owner has accepted the last fork.
    fn is_accepted(&self) -> bool;
}

/// The epoch that the entry at index `at` begins: each is unique, because a branch has one entry of a revision.
fn epoch_begun(entry: u8, at: usize) -> Epoch {
    Epoch::from_bytes([entry / 8 * 16 + 1 + u8::try_from(at).expect("the model's logs are short"); 16])
}

fn index(revision: Revision) -> usize {
    usize::try_from(revision.0).expect("a revision is not negative")
}

impl Log for Position {
    fn empty() -> Self {
        Self { epoch: FIRST, revision: Revision(0), chain: [0; 32] }
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.chain[..index(self.revision)].iter().map(|entry| KINDS[usize::from(entry % 8) - 1])
    }

    fn up_to(&self, revision: Revision) -> Self {
        let mut log = Self { revision, ..*self };
        log.chain[index(revision)..LOST].fill(0);
        log.chain[LOST + index(revision)..].fill(0);
        let began = log.kinds().collect::<Vec<_>>().iter().rposition(|kind| *kind == Kind::EpochBegan);
        log.epoch = began.map_or(FIRST, |at| epoch_begun(log.chain[at], at));
        log
    }

    fn with(&self, kind: Kind, branch: u8, lost: Epoch) -> Self {
        let (mut log, at) = (*self, index(self.revision));
        log.revision = self.revision.next();
        log.chain[at] = kind as u8 + 8 * branch;
        if kind == Kind::EpochBegan {
            log.epoch = epoch_begun(log.chain[at], at);
            log.chain[LOST + at] = lost.as_bytes()[0];
        }
        log
    }

    fn contains(&self, other: &Self) -> bool {
        other.revision <= self.revision && self.up_to(other.revision).chain == other.chain
    }

    fn records(&self, other: Epoch) -> bool {
        // Each epoch but the current one is the former one of a fork.
        let current = (0..=self.revision.0).any(|at| self.up_to(Revision(at)).epoch == other);
        let mut began = (0_usize..).zip(self.kinds()).filter(|(_, kind)| *kind == Kind::EpochBegan);
        current || began.any(|(at, _)| self.chain[LOST + at] == other.as_bytes()[0])
    }

    fn refuses(&self) -> bool {
        let (mut deactivated, mut withheld) = (false, false);
        for kind in self.kinds() {
            deactivated |= kind == Kind::Deactivated;
            withheld |= matches!(kind, Kind::Withheld | Kind::Reported);
            withheld &= kind != Kind::EpochAccepted;
        }
        deactivated || withheld
    }

    fn is_accepted(&self) -> bool {
        let last = self.kinds().filter(|kind| matches!(kind, Kind::EpochBegan | Kind::EpochAccepted)).last();
        last != Some(Kind::EpochBegan)
    }
}

/// The entry that ends at `position`, as the admin reads it. `conflict`: see [`LogEntry::conflict`].
pub(crate) fn entry(position: &Position, conflict: Option<Position>) -> LogEntry {
    let kind = match position.kinds().last() {
        Some(Kind::EpochBegan) => EntryKind::EpochBegins(position.epoch),
        Some(Kind::EpochAccepted) => EntryKind::EpochAccepted,
        _ => EntryKind::Change,
    };
    LogEntry { revision: position.revision, chain: position.chain, kind, conflict, revoked: Vec::new() }
}

/// The database that admins share, or that one has to itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Database {
    /// The log, as it is now.
    pub(crate) log: Position,
    /// How many times the database was replaced by an earlier state of itself.
    pub(crate) restores: u8,
    /// An owner has accepted an epoch.
    pub(crate) accepted_once: bool,
    /// The lives that may have leases in use.
    pub(crate) rows: Vec<Row>,
    /// How many lives have begun.
    pub(crate) lives: u8,
}

/// A row of `admin_node`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Row {
    pub(crate) life: AdminLife,
    /// The admin whose life it is, or was.
    pub(crate) admin: usize,
    /// The heartbeat counter, as each admin numbers its values.
    pub(crate) heartbeats: [i64; 2],
}

impl Database {
    /// A new database whose log has `unrelated` entries.
    pub(crate) fn new(unrelated: usize) -> Self {
        let log = (0..unrelated).fold(Position::empty(), |log, _| log.with(Kind::Unrelated, 0, log.epoch));
        Self { log, restores: 0, accepted_once: false, rows: Vec::new(), lives: 0 }
    }

    pub(crate) fn append(&mut self, kind: Kind) {
        self.log = self.log.with(kind, self.restores, self.log.epoch);
    }

    /// Loses the last entry of the log.
    pub(crate) fn restore(&mut self) {
        self.log = self.log.up_to(Revision(self.log.revision.0 - 1));
        self.restores += 1;
    }

    pub(crate) fn register(&mut self, admin: usize) -> AdminLife {
        self.lives += 1;
        let life = AdminLife::from_bytes([self.lives; 16]);
        self.rows.push(Row { life, admin, heartbeats: [0; 2] });
        life
    }

    /// The listing that `admin` reads.
    pub(crate) fn nodes(&self, admin: usize, lease: Duration) -> Vec<AdminNode> {
        let node = |row: &Row| AdminNode { life: row.life, lease, heartbeat: row.heartbeats[admin], address: None };
        self.rows.iter().map(node).collect()
    }

    /// Counts a heartbeat of a life. Returns `false` if it has no row.
    pub(crate) fn heartbeat(&mut self, life: AdminLife) -> bool {
        let row = self.rows.iter_mut().find(|row| row.life == life);
        row.map(|row| row.heartbeats = row.heartbeats.map(|heartbeat| heartbeat + 1)).is_some()
    }

    /// How `position` relates to the log.
    pub(crate) fn relation(&self, position: &Position) -> LogRelation {
        let epoch = if position.epoch == self.log.epoch {
            EpochRecord::Current
        } else if self.log.records(position.epoch) {
            EpochRecord::Former
        } else {
            EpochRecord::Unknown
        };
        LogRelation::new(epoch, self.log.contains(position))
    }

    /// Gives the history a new epoch if it lacks one of the positions, unless that is on record; and has it refuse the token
    /// if it lacks `own`, whose process has seen it refused. Returns `true` if the log lacked `own`.
    pub(crate) fn mend_history(&mut self, seen: &[Position], own: &Position, refused: bool) -> bool {
        let own_relation = self.relation(own);
        for position in seen.iter().chain([own]) {
            if self.relation(position).begins_epoch() {
                self.log = self.log.with(Kind::EpochBegan, self.restores, position.epoch);
            }
        }
        if own_relation.withholds(self.log.is_accepted()) && refused && !self.log.refuses() {
            self.append(Kind::Withheld);
        }
        own_relation.is_lost()
    }
}
