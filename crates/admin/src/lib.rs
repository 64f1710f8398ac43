#![doc = include_str!("../README.md")]

mod app;
mod auth;
mod backup;
mod database_url;
mod files;
mod first_start;
mod grpc;
mod metrics;
mod sdks;
mod secrets;
mod server;
mod setup;
mod sync;

pub use app::{App, AppOptions};
pub use backup::{BackedUp, BackupSecrets, Restored, back_up, restore};
pub use database_url::follow_database_url;
pub use first_start::{FirstStart, prepare_data_dir};
pub use keyward_store::check_exposure as check_database_exposure;
pub use metrics::Metrics;
pub use sdks::{BadUrl, PublicUrl};
pub use server::{listen, listen_in_process, listen_to, ops};
#[cfg(feature = "simulation")]
pub use setup::set_up_in_memory;
pub use setup::{Setup, SetupOutcome, open_deployment, set_up};
pub use sync::{PeerOptions, check_lease, put_lease};
