use std::collections::BTreeMap;

use keyward_domain::{Epoch, Position};

/// The most unpublished positions that are kept. Only a process that publishes nothing collects more, and there the newest
/// ones matter.
const MAX_UNPUBLISHED: usize = 4_096;

/// Positions that this process has seen in the log. A database whose log lacks one of them has lost changes.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct SeenPositions {
    /// The newest position that was published to validators.
    published: Option<Position>,
    /// Positions after the published one, by revision: commits of this process, and heads found by its heartbeats.
    unpublished: BTreeMap<i64, Position>,
}

impl SeenPositions {
    /// Records that validators know every change up to `position`.
    pub fn publish(&mut self, position: Position) {
        self.published = Some(position);
        self.unpublished.retain(|revision, _| *revision > position.revision.0);
    }

    /// Records that `position` is in the log. The first position recorded at a revision stays: if a later one conflicts with
    /// it, the first one is the evidence that the history has changed.
    pub fn record(&mut self, position: Position) {
        if self.published.is_none_or(|published| position.revision > published.revision) {
            self.unpublished.entry(position.revision.0).or_insert(position);
        }
        if self.unpublished.len() > MAX_UNPUBLISHED {
            self.unpublished.pop_first();
        }
    }

    /// The newest position that was published to validators.
    pub const fn published(&self) -> Option<Position> {
        self.published
    }

    /// The newest position, published or not.
    pub fn newest(&self) -> Option<Position> {
        self.unpublished.values().next_back().copied().or(self.published)
    }

    /// The positions that the log must contain, in the epoch in which it goes on ([`continues`](crate::log::continues)), before
    /// a change is committed: otherwise the change would be waited for in the history that validators follow, where it does
    /// not exist.
    ///
    /// Two are named: the newest position that was seen may belong to another history than the one that was published.
    pub fn required(&self) -> impl Iterator<Item = Position> + use<> {
        self.published.into_iter().chain(self.newest())
    }

    /// The unpublished position at the revision of `position`, if its chain value differs.
    pub fn conflict(&self, position: &Position) -> Option<Position> {
        self.unpublished.get(&position.revision.0).copied().filter(|seen| seen.chain != position.chain)
    }

    /// The positions that are not published yet.
    pub fn unpublished(&self) -> Vec<Position> {
        self.unpublished.values().copied().collect()
    }

    /// Discards the positions of `compared` that the log does not contain. A contained one stays, as a position of `epoch` in
    /// which the log continues: the log may still lose it.
    pub fn discard_lost(&mut self, compared: &[Position], contained: &[Position], epoch: Epoch) {
        self.unpublished.retain(|_, seen| contained.contains(seen) || !compared.contains(seen));
        for seen in self.unpublished.values_mut().filter(|seen| contained.contains(seen)) {
            seen.epoch = epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use keyward_domain::Revision;

    use super::*;

    fn position(revision: i64, chain: u8) -> Position {
        Position { epoch: Epoch::from_bytes([0; 16]), revision: Revision(revision), chain: [chain; 32] }
    }

    #[test]
    fn a_committed_position_is_kept_until_it_is_published() {
        let mut seen = SeenPositions::default();
        seen.publish(position(10, 1));
        seen.record(position(11, 2));
        assert_eq!(seen.newest(), Some(position(11, 2)));
        assert_eq!((seen.published(), seen.conflict(&position(11, 9))), (Some(position(10, 1)), Some(position(11, 2))));
        assert_eq!((seen.conflict(&position(11, 2)), seen.conflict(&position(12, 9))), (None, None));
        seen.publish(position(11, 2));
        assert_eq!((seen.newest(), seen.conflict(&position(11, 9))), (Some(position(11, 2)), None));
    }

    #[test]
    fn a_conflicting_position_does_not_replace_the_first_one() {
        let mut seen = SeenPositions::default();
        seen.record(position(11, 2));
        seen.record(position(11, 9));
        assert_eq!(seen.conflict(&position(11, 9)), Some(position(11, 2)));
        seen.discard_lost(&seen.unpublished(), &[], position(11, 9).epoch);
        assert_eq!(seen.newest(), None);
    }

    #[test]
    fn a_position_is_discarded_only_if_it_was_compared_and_is_not_in_the_log() {
        let mut seen = SeenPositions::default();
        seen.record(position(11, 2));
        seen.record(position(12, 2));
        let compared = seen.unpublished();
        seen.record(position(13, 2));
        let epoch = Epoch::from_bytes([255; 16]);
        seen.discard_lost(&compared, &[position(11, 2)], epoch);
        assert_eq!(seen.unpublished(), [Position { epoch, ..position(11, 2) }, position(13, 2)]);
    }

    #[test]
    fn the_number_of_positions_is_bounded_and_the_newest_stay() {
        let mut seen = SeenPositions::default();
        for revision in 0..10_000 {
            seen.record(position(revision, 1));
        }
        assert_eq!((seen.unpublished.len(), seen.newest()), (MAX_UNPUBLISHED, Some(position(9_999, 1))));
    }
}
