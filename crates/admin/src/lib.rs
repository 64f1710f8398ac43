#![doc = include_str!("../README.md")]

mod app;
mod first_start;
mod grpc;
mod metrics;
mod secrets;
mod server;
mod sync;

pub use app::App;
pub use first_start::{FirstStart, prepare_data_dir};
pub use metrics::Metrics;
pub use server::{listen, listen_in_process, ops};
