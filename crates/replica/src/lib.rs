#![doc = include_str!("../README.md")]

mod clock;
mod lease;
mod replica;
mod table;
mod writer;

pub use clock::{AnyClock, BootClock, Clock};
pub use replica::{Answer, NoAnswer, Replica, TokenKeys};
pub use table::{Ends, Facts, SharedTable, TableWriter};
pub use writer::ReplicaWriter;
