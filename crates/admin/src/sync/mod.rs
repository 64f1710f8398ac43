//! How validators are fed: the image, the publisher that keeps it at the head of the change log, and one session per
//! validator. What makes it safe to answer "enforced" is in `fence.rs`, and where others share the database in
//! `heartbeat.rs` and `peers.rs`; what happens when the database loses changes, in `fork.rs`.

mod fence;
mod fork;
mod heartbeat;
mod image;
mod peers;
mod policy;
mod publisher;
mod session;
mod state;
mod withheld;

pub(crate) use fence::FenceOutcome;
pub use peers::PeerOptions;
pub use policy::{check_lease, put_lease};
pub(crate) use publisher::Publisher;
pub(crate) use session::ReplicaApi;
