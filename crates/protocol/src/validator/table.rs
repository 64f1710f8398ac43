use keyward_domain::Revision;

/// The table that requests are answered from, as the [`crate::Follower`] writes it. The validator implements it over its
/// shared memory; a model may implement it over a few bytes.
///
/// A table that requests read is changed in place: each call is visible to every request before it returns.
pub trait Table: Default {
    /// One key with its tokens, as the replica protocol carries it.
    type Entry;
    /// Refused tokens, with the instants from which they are refused.
    type Ends: Default;

    /// Adds a key, or replaces it.
    fn put(&mut self, entry: Self::Entry);

    /// Publishes that every change up to `revision` is in the table.
    fn publish(&mut self, revision: Revision);

    /// Every token that is refused now or from a later instant on, those of [`Table::withheld`] included.
    fn ends(&self) -> Self::Ends;

    /// The tokens that are refused because a former history refused them.
    fn withheld(&self) -> Self::Ends;

    /// Refuses these tokens although the table's history may accept them. Called before requests read the table.
    fn withhold(&mut self, ends: Self::Ends);

    /// Lifts every refusal of [`Table::withhold`]: only the table's own history counts.
    fn release(&mut self);
}
