use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Instant;

/// The right to answer from memory, until an instant, as requests see it. Read on every call and never by a timer: a
/// process that was stopped and wakes up finds the clock advanced, whereas a flag would still stand.
#[derive(Debug)]
pub struct Lease(AtomicI64);

impl Default for Lease {
    fn default() -> Self {
        Self(AtomicI64::new(Instant::MIN.as_nanos()))
    }
}

impl Lease {
    /// When it ends. To be read *before* the clock and the table: a reader that is stopped between two steps then errs
    /// towards having no lease.
    pub fn until(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Shows requests what the [`crate::Holder`] holds.
    pub fn publish(&self, until: Instant) {
        self.0.store(until.as_nanos(), Ordering::Release);
    }
}
