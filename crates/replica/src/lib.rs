#![doc = include_str!("../README.md")]

mod barrier;
mod basis;
mod clock;
mod follower;
mod holder;
mod lease;
mod policy;
mod replica;
mod sessions;
mod table;
mod watch;

pub use barrier::{Barrier, Cleared, Listing, Settled, Standing};
pub use basis::Basis;
pub use clock::{AnyClock, BootClock, Clock, Instant};
pub use follower::{Follower, FollowerError, HistoryStanding, Message, Position, Reply};
pub use holder::{Holder, HolderSession};
pub use lease::Lease;
pub use policy::Policy;
pub use replica::{Answer, NoAnswer, Replica};
pub use sessions::{Enforcement, SessionId, Sessions};
pub use table::{Facts, Table};
pub use watch::Watch;
