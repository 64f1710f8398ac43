//! The change log: its head and its hash chain, and the search for positions in it.
//!
//! The head is the one row of `rev_counter`. A change locks it, appends an entry to `change_log`, and moves it, all in one
//! transaction, so revisions are gapless and in commit order.

pub(crate) mod chain;
pub(crate) mod head;
pub(crate) mod history;
pub(crate) mod notifications;
mod signed_position;
