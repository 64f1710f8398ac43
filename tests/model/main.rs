//! The revocation protocol, searched through all its states. The model moves messages, loses them, crashes processes, lets
//! time pass and replaces the database. Each decision is one of the state machines that the servers run:
//! `keyward_protocol::admin::Node` and `keyward_protocol::validator::Follower`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod admin;
mod canonical;
mod database;
mod mutants;
mod search;
mod state;
mod validator;
mod world;
