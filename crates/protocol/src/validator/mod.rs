//! The validator's side: [`Follower`] keeps the replica exact, [`Holder`] keeps the leases, and [`Lease`] decides whether a
//! request may be answered.

mod follower;
mod handover;
mod holder;
mod lease;
mod table;

pub use follower::{Effect, Follower, FollowerError, Message, Opening, Welcome};
pub use handover::{Decision, Handover, is_short};
pub use holder::{Holder, HolderSession};
pub use lease::Lease;
pub use table::Table;
