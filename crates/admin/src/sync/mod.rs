//! How validators are fed, and how a change becomes enforced everywhere.
//!
//! [`keyward_protocol::admin::Node`] takes every decision about leases, fences and forks. The files here perform its I/O:
//!
//! * `publisher.rs`: the [`Publisher`] holds the node and the [`feed::Feed`] behind one mutex, passes events to the node, and
//!   carries its effects out;
//! * `feed.rs`: what validators are fed from: the image of all keys, recent deltas, and the queues of all sessions;
//! * `log.rs`: follows the change log, and repairs the history after the database has lost changes;
//! * `heartbeat.rs`: heartbeats, evictions and notifications where several admins share a database;
//! * `fence.rs` and `peers.rs`: wait until a change is enforced, and ask the other admins;
//! * `session.rs`: one validator's stream.

mod feed;
mod fence;
mod heartbeat;
mod image;
mod log;
mod peers;
mod policy;
mod publisher;
mod session;
mod withheld;

pub(crate) use fence::AwaitedPeers;
pub use peers::PeerOptions;
pub(crate) use policy::record_external_leases;
pub use policy::{check_lease, put_lease};
pub(crate) use publisher::Publisher;
pub(crate) use session::ReplicaApi;
