//! The repository's own rules, as tests, so that one command is the only gate.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod architecture;
mod source;
mod tools;
