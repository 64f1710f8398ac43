//! System tests: they start Keyward's real processes and use them as clients and operators do.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
mod addresses;
mod addresses_of_a_name;
mod audit;
mod backup;
mod client;
mod cluster;
mod connections;
mod crash;
mod database;
mod docs;
mod files;
mod first_start;
mod forks;
mod gateways;
mod grpcurl;
mod header_mixes;
mod hook;
mod idempotency;
mod init;
mod laggards;
mod lifecycle;
mod members;
mod memory;
mod names;
mod operator;
mod overload;
mod pages;
#[cfg(feature = "proof")]
mod pauses;
mod readiness;
mod readme;
mod reasons;
mod rotation;
mod scenarios;
mod sdks;
mod secrecy;
mod settings;
mod store;
mod unreadable;
mod validate;
mod validators;
#[cfg(feature = "proof")]
mod versions;
mod walk;
