//! The operator's commands. The result goes to stdout, everything else to stderr.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod exit;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod members;
mod output;
pub(crate) mod projects;
mod prompt;
mod reach;
pub(crate) mod sdks;
