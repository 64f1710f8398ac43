//! What Keyward does when what it stands on fails: disks, memory, log files, the database.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod breaking;
mod changes;
mod durable;
mod log;
mod postgres;
mod sqlite;
