use std::sync::atomic::{AtomicI64, Ordering};

use keyward_protocol::Instant;
use keyward_protocol::validator::Lease;

/// The lease as requests read it.
#[derive(Debug)]
pub(crate) struct LeaseCell(AtomicI64);

impl Default for LeaseCell {
    fn default() -> Self {
        Self(AtomicI64::new(Lease::NONE.end().as_nanos()))
    }
}

impl LeaseCell {
    /// The lease. A request reads it *before* the clock and the table; see [`Lease`].
    pub(crate) fn load(&self) -> Lease {
        Lease::until(Instant::from_nanos(self.0.load(Ordering::Acquire)))
    }

    /// Publishes the lease that the follower holds.
    pub(crate) fn store(&self, lease: Lease) {
        self.0.store(lease.end().as_nanos(), Ordering::Release);
    }
}
