//! The admin's side: [`Node`] is its whole safety logic.

mod agreement;
mod barrier;
mod basis;
mod canonical;
mod cluster;
mod enforced;
mod enforcement;
mod event;
mod fence;
mod heartbeat;
mod history;
mod laggards;
mod node;
mod pace;
mod sessions;
mod watch;

pub use agreement::{Agreement, StoredLeases};
pub use barrier::{Barrier, BarrierStatus, Cleared, Listing};
pub use basis::Basis;
pub use enforced::{Enforced, EnforcedBy};
pub use event::{Effect, EntryKind, Event, Joined, LogEntry, NoGrants, NotNow, PeerMode, Start};
pub use fence::{FenceId, FenceStatus, PeerBarrier, Pending};
pub use history::{History, Known};
pub use laggards::Laggards;
pub use node::Node;
pub use pace::Pace;
pub use sessions::{Enforcement, SessionId, Sessions};
pub use watch::{Silent, Watch};
