//! Keyward through its front door.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
mod cluster;
mod crash;
mod envoy;
mod first_start;
mod grpcurl;
mod hook;
mod idempotency;
mod init;
mod lifecycle;
mod members;
mod names;
mod operator;
mod pauses;
mod readme;
mod secrecy;
mod store;
mod validate;
mod validators;
