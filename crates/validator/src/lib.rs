#![doc = include_str!("../README.md")]

mod front;
mod metrics;
mod options;
mod role;
mod server;
mod validate;

pub use keyward_domain::TokenSources;
pub use keyward_sync::{Connector, Upstream};
pub use options::{Config, Options, token_sources};
pub use role::run;
pub use server::{Listeners, Role};
