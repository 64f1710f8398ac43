use std::time::Duration;

use crate::log::AdminLife;

/// A row of the table `admin_node`: one admin life, as the other admins over the same database see it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AdminNode {
    /// The life; never reused.
    pub life: AdminLife,
    /// Length of the leases that it grants.
    pub lease: Duration,
    /// The number of heartbeats that it has committed.
    pub heartbeat: i64,
    /// URL at which other admins reach it, such as `http://10.0.0.1:8510`; `None` if they cannot.
    pub address: Option<String>,
}
