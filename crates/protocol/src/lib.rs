#![doc = include_str!("../README.md")]

pub mod admin;
mod policy;
mod time;
pub mod validator;

pub use policy::Policy;
pub use time::Instant;
