use std::collections::VecDeque;

use keyward_domain::{Epoch, Position, Revision};

/// How many recent positions are kept. A validator that is further behind takes a snapshot.
const RECENT: usize = 4_096;

/// The history that an admin follows, and its doubts about it.
///
/// An admin is in doubt once the database seems to lack a change that the admin has applied. Until the doubt is resolved
/// the admin grants no lease, admits no validator, and calls nothing enforced.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct History {
    head: Position,
    /// Positions that this admin has applied in this epoch, in order; at most [`RECENT`].
    recent: VecDeque<Position>,
    /// `true` if an owner has accepted the epoch, or the history never forked.
    accepted: bool,
    in_doubt: bool,
    /// A position that a validator or this process knows and that the log seems to lack.
    suspect: Option<Position>,
}

/// How a position relates to the history that an admin follows, as far as the admin knows without the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// The history contains it.
    Contained,
    /// It is of the same epoch and newer than everything that is applied here.
    Ahead,
    /// Only the database knows.
    Unknown,
}

impl History {
    /// The history of an admin that has loaded everything up to `head`.
    pub const fn new(head: Position, accepted: bool) -> Self {
        Self { head, recent: VecDeque::new(), accepted, in_doubt: false, suspect: None }
    }

    /// The newest applied position.
    pub const fn head(&self) -> Position {
        self.head
    }

    /// The recent positions for which deltas are kept, in order.
    pub const fn recent(&self) -> &VecDeque<Position> {
        &self.recent
    }

    /// `true` if an owner has accepted the epoch, or the history never forked.
    pub const fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// `true` if the database may have lost changes that this admin has applied.
    pub const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Returns `true` if tokens that a validator reports as denied by an earlier epoch are withheld. An owner who accepted
    /// the epoch has decided about them.
    pub const fn takes_reports(&self) -> bool {
        !self.accepted && !self.in_doubt
    }

    /// The position to look for in the log; `None` if nothing is to be checked.
    pub const fn suspect(&self) -> Option<Position> {
        self.suspect
    }

    /// The applied position of that revision, if it is recent.
    pub fn position_at(&self, revision: Revision) -> Option<Position> {
        if revision == self.head.revision {
            return Some(self.head);
        }
        let at = self.recent.binary_search_by_key(&revision, |position| position.revision).ok()?;
        self.recent.get(at).copied()
    }

    /// How `position` relates to this history.
    pub fn relation(&self, position: &Position) -> Known {
        if position.epoch != self.head.epoch {
            return Known::Unknown;
        }
        match self.position_at(position.revision) {
            Some(applied) if applied == *position => Known::Contained,
            None if position.revision > self.head.revision => Known::Ahead,
            Some(_) | None => Known::Unknown,
        }
    }

    pub(super) fn apply(&mut self, position: Position) {
        self.head = position;
        self.recent.push_back(position);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Drops the recent positions: validators that reconnect take a snapshot.
    pub(super) fn forget_recent(&mut self) {
        self.recent.clear();
    }

    pub(super) fn enter(&mut self, epoch: Epoch) {
        self.head.epoch = epoch;
        self.accepted = false;
        self.recent.clear();
    }

    pub(super) const fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) const fn doubt(&mut self) {
        self.in_doubt = true;
    }

    pub(super) const fn resolve_doubt(&mut self) {
        self.in_doubt = false;
    }

    pub(super) const fn suspect_position(&mut self, position: Position) {
        self.suspect = Some(position);
    }

    pub(super) const fn clear_suspect(&mut self) {
        self.suspect = None;
    }
}

/// Returns `true` if a log that ends at `head` lacks `known`, which was in the log before `head` was read.
pub(super) fn contradicts(head: &Position, known: &Position) -> bool {
    let same_revision = head.revision == known.revision;
    // Another epoch with a higher revision may continue from `known`; the log decides.
    head.revision < known.revision || (same_revision && (head.chain != known.chain || head.epoch != known.epoch))
}
