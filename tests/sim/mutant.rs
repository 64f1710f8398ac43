//! What is broken on purpose, to see that it is found out. Nothing of it is in the servers: it is their clocks, their
//! database and those who ask them that are wrong.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// Nothing is.
    None,
    /// A validator's clock stops while its machine is suspended, as CLOCK_MONOTONIC does.
    ClockStopsInSuspend,
    /// Validators' clocks run slower than any clock that the protocol allows for.
    SlowClocks,
    /// An admin's clock runs faster than any clock that the protocol allows for.
    FastAdminClock,
    /// A gateway keeps what a validator said for a while.
    ResultCache,
    /// A gateway has a question wait for the answer to the same question asked before.
    SingleFlight,
    /// A gateway goes by the last answer when there is none.
    ServesStale,
    /// An operator whose call failed looks whether the key is deactivated, and takes that for an answer.
    BelievesALook,
    /// Admins are struck off while they live.
    StruckOffEarly,
}

impl Mutant {
    /// All that are wrong.
    pub(crate) const ALL: [Self; 8] = [
        Self::ClockStopsInSuspend,
        Self::SlowClocks,
        Self::FastAdminClock,
        Self::ResultCache,
        Self::SingleFlight,
        Self::ServesStale,
        Self::BelievesALook,
        Self::StruckOffEarly,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
