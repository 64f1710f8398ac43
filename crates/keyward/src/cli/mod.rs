//! The operator's commands: what is wanted on stdout, everything else on stderr.

pub(crate) mod client;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod projects;
