use std::time::Duration;

use crate::log::AdminLife;

/// One life of one admin process, as the others that share its database see it. Each start is a life of its own: what a
/// process granted in a former one, it no longer knows.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AdminNode {
    /// Never reused.
    pub life: AdminLife,
    /// D of the leases that it grants.
    pub lease: Duration,
    /// How many heartbeats it has committed.
    pub heartbeat: i64,
    /// URL at which other admins reach it, as `http://10.0.0.1:8510`; `None`: they cannot.
    pub address: Option<String>,
}
