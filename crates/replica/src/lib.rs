#![doc = include_str!("../README.md")]

mod clock;
mod follower;
mod lease;
mod replica;
mod sessions;
mod table;

pub use clock::{BootClock, Clock, Instant};
pub use follower::{Follower, FollowerError, Message, Position, Reply};
pub use lease::Lease;
pub use replica::{Answer, NoAnswer, Replica};
pub use sessions::{Barrier, SessionId, Sessions};
pub use table::{Facts, Table};
