//! Keyward's behaviour when disks, log files or the database fail.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod breaking;
mod changes;
mod durable;
mod log;
mod postgres;
mod sqlite;
