use std::time::Duration;

use crate::time::Instant;

/// The right to answer requests from memory until an instant, exclusive.
///
/// Code that answers a request reads the lease first, the clock second, and the table last. A pause between two of these
/// reads then errs towards an expired lease. A process that was suspended and resumes finds the clock advanced; a flag that
/// a timer clears would still be set.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lease(Instant);

impl Lease {
    /// No lease.
    pub const NONE: Self = Self(Instant::MIN);

    /// The lease that ends at `end`.
    pub const fn until(end: Instant) -> Self {
        Self(end)
    }

    /// When the lease ends.
    pub const fn end(self) -> Instant {
        self.0
    }

    /// Returns `true` if a request may be answered by a clock that was read as `now` after this lease was read.
    pub fn is_valid_at(self, now: Instant) -> bool {
        now < self.0
    }

    /// How long the lease runs on after `now`.
    pub fn left(self, now: Instant) -> Duration {
        if self == Self::NONE { Duration::ZERO } else { self.0.since(now) }
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::NONE
    }
}
