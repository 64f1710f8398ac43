//! The repository's own rules, as tests.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod architecture;
mod circles;
mod paths;
mod proof;
mod source;
#[cfg(feature = "proof")]
mod tools;
