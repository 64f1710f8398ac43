#![doc = include_str!("../README.md")]

mod clock;
mod follower;
mod holder;
mod lease;
mod policy;
mod replica;
mod sessions;
mod table;

pub use clock::{BootClock, Clock, Instant};
pub use follower::{Follower, FollowerError, Message, Position, Reply};
pub use holder::Holder;
pub use lease::Lease;
pub use policy::Policy;
pub use replica::{Answer, NoAnswer, Replica};
pub use sessions::{Enforcement, SessionId, Sessions};
pub use table::{Facts, Table};
