#![doc = include_str!("../README.md")]

mod address;
mod api_key;
mod by_call;
mod by_stream;
mod client;
mod embedded;
mod layer;
mod validation;

pub use address::{Admins, ConfigError, Validators};
pub use api_key::ApiKey;
pub use client::Client;
pub use keyward_domain::{Expectation, Platform, Revision, TokenSources, Verdict};
pub use layer::{KeywardLayer, KeywardService};
pub use validation::{Unavailable, Validation};
