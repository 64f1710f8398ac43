//! Deliberate errors, to check that the simulation finds them. They are not in the servers' code, but in the clocks,
//! the database and the clients around them.

/// A deliberate error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// No error.
    None,
    /// A validator's clock stops while its machine is suspended, as CLOCK_MONOTONIC does.
    ClockStopsInSuspend,
    /// Validators' clocks run slower than any clock that the protocol allows for.
    SlowClocks,
    /// An admin's clock runs faster than any clock that the protocol allows for.
    FastAdminClock,
    /// A gateway caches answers for a while.
    ResultCache,
    /// A gateway answers a request with the result of an earlier request for the same key that is in flight.
    SingleFlight,
    /// A gateway repeats the last answer when a call fails.
    ServesStale,
    /// An operator whose Deactivate failed takes the key's state in GetKey for its success.
    TrustsGetKey,
    /// Admins are evicted while they are running.
    EvictedEarly,
}

impl Mutant {
    /// Every error.
    pub(crate) const ALL: [Self; 8] = [
        Self::ClockStopsInSuspend,
        Self::SlowClocks,
        Self::FastAdminClock,
        Self::ResultCache,
        Self::SingleFlight,
        Self::ServesStale,
        Self::TrustsGetKey,
        Self::EvictedEarly,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
