use keyward_domain::{Epoch, Position};

/// How a position relates to the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogRelation {
    /// The log contains the position.
    InLog,
    /// The log lacks the position, and a fork that the log records explains that.
    KnownLost,
    /// The log lacks the position, and no recorded fork explains that: the database has lost changes.
    NewlyLost,
}

/// What the log records about the epoch of a position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EpochRecord {
    /// It is the epoch in which the log goes on.
    Current,
    /// A fork names the epoch: it was current once, or it was lost.
    Former,
    /// The log names the epoch nowhere.
    Unknown,
}

impl LogRelation {
    /// The relation of a position. `in_log`: `true` if the log has an entry with the revision and the chain value of the
    /// position.
    pub const fn new(epoch: EpochRecord, in_log: bool) -> Self {
        match (epoch, in_log) {
            (EpochRecord::Unknown, _) | (EpochRecord::Current, false) => Self::NewlyLost,
            (EpochRecord::Former, false) => Self::KnownLost,
            (EpochRecord::Current | EpochRecord::Former, true) => Self::InLog,
        }
    }

    /// Returns `true` if the log lacks the position.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::InLog)
    }

    /// Returns `true` if a repair of the history must begin a new epoch because of the position.
    pub const fn begins_epoch(self) -> bool {
        matches!(self, Self::NewlyLost)
    }

    /// Returns `true` if a repair must withhold the tokens that the history up to the position denied. `accepted`: `true` if
    /// an owner has accepted the epoch of the log, or the log never forked.
    pub const fn withholds(self, accepted: bool) -> bool {
        self.is_lost() && !accepted
    }
}

/// Returns `true` if a log that ends at `head` goes on from `position` in the same epoch. `in_log`: `true` if the log has an
/// entry with the revision and the chain value of `position`.
pub fn continues(head: &Position, position: &Position, in_log: bool) -> bool {
    position.epoch == head.epoch && in_log
}

/// Returns `true` if tokens that a validator reported in the epoch `reported` are withheld in a log that continues in the epoch
/// `current`. `accepted`: `true` if an owner has accepted `current`, or the log never forked.
pub fn withholds_reported(current: Epoch, reported: Epoch, accepted: bool) -> bool {
    current == reported && !accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loss_that_no_fork_explains_begins_an_epoch() {
        let lost = LogRelation::new(EpochRecord::Current, false);
        assert!(lost.begins_epoch() && LogRelation::new(EpochRecord::Unknown, false).begins_epoch());
        assert!(!LogRelation::new(EpochRecord::Former, false).begins_epoch());
        assert!(!LogRelation::new(EpochRecord::Current, true).begins_epoch());
    }

    #[test]
    fn the_entry_of_an_unknown_epoch_proves_nothing() {
        // Two histories may have equal entries up to a restore, and the log does not record that it forked.
        assert_eq!(LogRelation::new(EpochRecord::Unknown, true), LogRelation::NewlyLost);
        assert_eq!(LogRelation::new(EpochRecord::Former, true), LogRelation::InLog);
    }

    #[test]
    fn tokens_are_withheld_for_any_loss_until_an_owner_accepts_the_epoch() {
        for lost in [LogRelation::KnownLost, LogRelation::NewlyLost] {
            assert!(lost.withholds(false) && !lost.withholds(true));
        }
        assert!(!LogRelation::InLog.withholds(false));
    }

    #[test]
    fn a_report_counts_only_in_its_own_epoch_and_before_its_acceptance() {
        let [epoch, other] = [1, 2].map(|n| Epoch::from_bytes([n; 16]));
        assert!(withholds_reported(epoch, epoch, false));
        assert!(!withholds_reported(epoch, epoch, true) && !withholds_reported(epoch, other, false));
    }
}
