#![doc = include_str!("../README.md")]

pub mod admin;
pub mod log;
mod policy;
mod time;
pub mod validator;

pub use policy::Policy;
pub use time::Instant;
