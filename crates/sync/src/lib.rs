#![doc = include_str!("../README.md")]

mod authorization;
mod backoff;
mod candidates;
mod connector;
mod decode;
mod link;
mod subscriber;
mod upstream;
mod validator_id;
pub mod wire;

pub use authorization::{Authorization, ReadCredential};
pub use backoff::{Backoff, start_anywhere};
pub use connector::{Connecting, Connector, Io};
pub use subscriber::Subscriber;
pub use upstream::{Upstream, lazy_channel};
pub use validator_id::is_validator_id;
