//! The revocation protocol, searched through all its states. The model moves messages, clocks and crashes about; what
//! is decided is decided by the very machines that the servers run: `keyward_replica::Sessions`, `Holder`, and between
//! admins `Basis`, `Barrier`, `Settled` and `Watch`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod canonical;
mod mutants;
mod search;
mod shared;
mod state;
mod step;
mod two;
mod world;
