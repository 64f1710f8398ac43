use keyward_domain::Revision;

/// The table that requests are answered from, as the [`crate::Follower`] writes it. The validator implements it over its
/// shared memory; a model may implement it over a few bytes.
///
/// A table that requests read is changed in place: each call is visible to every request before it returns.
pub trait Table: Default {
    /// One key with its tokens, as the replica protocol carries it.
    type Entry;
    /// Tokens that end, each with the instant from which it is denied.
    type Ends: Default;

    /// Adds a key, or replaces it.
    fn put(&mut self, entry: Self::Entry);

    /// Publishes that every change up to `revision` is in the table.
    fn publish(&mut self, revision: Revision);

    /// Every token that is denied now or from a later instant on, those of [`Table::withheld`] included.
    fn ends(&self) -> Self::Ends;

    /// The withheld tokens: those that are denied because a lost history denied them.
    fn withheld(&self) -> Self::Ends;

    /// Denies these tokens although the table's history may accept them. Called before requests read the table.
    fn withhold(&mut self, ends: Self::Ends);

    /// Undoes every [`Table::withhold`]: only the table's own history counts.
    fn release(&mut self);
}
