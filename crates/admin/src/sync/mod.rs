//! How validators are fed: the image, the publisher that keeps it at the head of the change log, and one session per
//! validator.

mod image;
mod policy;
mod publisher;
mod session;

pub(crate) use publisher::{FenceOutcome, Publisher};
pub(crate) use session::ReplicaApi;
