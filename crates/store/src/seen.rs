use std::collections::BTreeMap;

use keyward_domain::Position;

/// Places that are kept beyond the newest that validators were told of. More come together only in a process that tells
/// nobody, and the newest are what counts.
const MOST: usize = 4_096;

/// Places that this process knows to be in the log. A database whose log lacks one of them has lost changes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The newest that validators were told of.
    told: Option<Position>,
    /// Those beyond: what this process has committed, and what its heartbeats have found.
    ahead: BTreeMap<i64, Position>,
}

impl Seen {
    /// Validators were told of everything up to that place.
    pub(crate) fn tell(&mut self, head: Position) {
        self.told = Some(head);
        self.ahead.retain(|revision, _| *revision > head.revision.0);
    }

    /// That place is in the log. One that contradicts what was seen before is not taken down: the other one shows it.
    pub(crate) fn see(&mut self, head: Position) {
        if self.told.is_none_or(|told| head.revision > told.revision) {
            self.ahead.entry(head.revision.0).or_insert(head);
        }
        if self.ahead.len() > MOST {
            self.ahead.pop_first();
        }
    }

    /// The newest that validators were told of.
    pub(crate) const fn told(&self) -> Option<Position> {
        self.told
    }

    /// The newest of all.
    pub(crate) fn newest(&self) -> Option<Position> {
        self.ahead.values().next_back().copied().or(self.told)
    }

    /// The place that the log was seen to have at the revision of `head`, and beyond what was told, if it is another one.
    pub(crate) fn otherwise(&self, head: &Position) -> Option<Position> {
        self.ahead.get(&head.revision.0).copied().filter(|seen| seen.chain != head.chain)
    }

    /// Lets go of what lies beyond what was told and has been looked for, in a log that ended there.
    pub(crate) fn looked_for(&mut self, end: &Position) {
        self.ahead.retain(|_, seen| seen.epoch == end.epoch && seen.revision > end.revision);
    }
}

#[cfg(test)]
mod tests {
    use keyward_domain::{Epoch, Revision};

    use super::*;

    fn head(revision: i64, chain: u8) -> Position {
        Position { epoch: Epoch::from_bytes([0; 16]), revision: Revision(revision), chain: [chain; 32] }
    }

    #[test]
    fn what_was_committed_is_looked_for_until_validators_are_told_of_it() {
        let mut seen = Seen::default();
        seen.tell(head(10, 1));
        seen.see(head(11, 2));
        assert_eq!(seen.newest(), Some(head(11, 2)));
        assert_eq!((seen.told(), seen.otherwise(&head(11, 9))), (Some(head(10, 1)), Some(head(11, 2))));
        assert_eq!((seen.otherwise(&head(11, 2)), seen.otherwise(&head(12, 9))), (None, None));
        seen.tell(head(11, 2));
        assert_eq!((seen.newest(), seen.otherwise(&head(11, 9))), (Some(head(11, 2)), None));
    }

    #[test]
    fn a_place_of_another_history_does_not_hide_the_one_seen_before() {
        let mut seen = Seen::default();
        seen.see(head(11, 2));
        seen.see(head(11, 9));
        assert_eq!(seen.otherwise(&head(11, 9)), Some(head(11, 2)));
        seen.looked_for(&head(11, 9));
        assert_eq!(seen.newest(), None);
    }

    #[test]
    fn what_was_committed_after_the_look_is_looked_for_still_unless_the_history_is_another() {
        let mut seen = Seen::default();
        seen.see(head(12, 2));
        seen.looked_for(&head(11, 1));
        assert_eq!(seen.newest(), Some(head(12, 2)));
        seen.looked_for(&Position { epoch: Epoch::from_bytes([255; 16]), ..head(11, 1) });
        assert_eq!(seen.newest(), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stays() {
        let mut seen = Seen::default();
        for revision in 0..10_000 {
            seen.see(head(revision, 1));
        }
        assert_eq!((seen.ahead.len(), seen.newest()), (MOST, Some(head(9_999, 1))));
    }
}
