#![doc = include_str!("../README.md")]

pub mod config;
pub mod deadline;
pub mod environment;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod memory;
pub mod ops;
pub mod readiness;
pub mod report;
pub mod secret_file;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod wire;
