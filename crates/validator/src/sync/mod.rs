//! How this validator is fed.

mod backoff;
mod decode;
mod link;
mod subscriber;
mod upstream;

pub(crate) use subscriber::Subscriber;
pub use upstream::Upstream;
