//! What a process knows about the change log: how a position relates to the log, and which positions the log must contain.

mod relation;
mod seen;

pub use relation::{EpochRecord, LogRelation, continues, withholds_reported};
pub use seen::SeenPositions;
