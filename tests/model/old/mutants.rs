//! Ways to get the protocol wrong. Each is a wrong use of the machines, so that no server contains one.

/// One mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// A lease counts from the grant's arrival.
    LeaseFromReceipt,
    /// A lease counts from the newest renewal, whichever the grant answers.
    AnchorLatest,
    /// A validator reads its table before its lease.
    StateBeforeLease,
    /// A validator acknowledges what it has heard and not applied.
    AckBeforeApply,
    /// A retry finds the key inactive and returns at once.
    RetryNoop,
    /// An admin does not wait for the leases of its former lives.
    RestartForgets,
    /// An admin waits for leases as its last life gave them, not for longer ones of a life before.
    OnlyLastLife,
    /// An admin takes a broken stream for a goodbye.
    ReleaseOnDisconnect,
    /// A validator says goodbye and goes on under its lease.
    GoodbyeKeepsLease,
    /// A validator says goodbye first and gives up its lease then.
    GoodbyeFirst,
    /// A validator's clock stands still while its machine sleeps.
    MonoClock,
    /// No margin for the error of clocks.
    NoMargin,
    /// A grant overtakes what was appended before it.
    NotFifo,
    /// Deactivate does not wait until the delta is in every queue.
    EnforcedBeforeAppend,
    /// A session is counted only some time after its snapshot was taken.
    JoinAfterSnapshot,
    /// An admin that shares its database grants whole leases, however long ago it heard from it.
    NoBasisCap,
    /// Its leases are chained to when its heartbeat was answered.
    BasisAtReply,
    /// It takes what it knows for the newest revision.
    HeartbeatWithoutRevision,
    /// It waits for its own sessions only, not for its former lives.
    OwnOnly,
    /// It strikes off a former life as soon as it sees it.
    StruckOffEarly,
    /// A session is ended and begun again, in the admin's record only, at every renewal.
    WaitProlonged,
    /// A validator that moves to an admin which is behind goes back to what that one knows.
    RollBack,
    /// An admin answers another's question for whichever of its lives it is asked.
    AnswersForAnotherLife,
    /// It answers before it has appended the deactivation itself.
    AnswersBeforeApplied,
    /// An admin that waits takes a listing from before the commit for whom to wait for.
    ListedBeforeCommit,
    /// It takes the end of a connection to another for that one's answer.
    SilenceIsAnAnswer,
}

impl Mutant {
    pub(crate) const ALL: [Self; 26] = [
        Self::LeaseFromReceipt,
        Self::AnchorLatest,
        Self::StateBeforeLease,
        Self::AckBeforeApply,
        Self::RetryNoop,
        Self::RestartForgets,
        Self::OnlyLastLife,
        Self::ReleaseOnDisconnect,
        Self::GoodbyeKeepsLease,
        Self::GoodbyeFirst,
        Self::MonoClock,
        Self::NoMargin,
        Self::NotFifo,
        Self::EnforcedBeforeAppend,
        Self::JoinAfterSnapshot,
        Self::WaitProlonged,
        Self::NoBasisCap,
        Self::BasisAtReply,
        Self::HeartbeatWithoutRevision,
        Self::OwnOnly,
        Self::StruckOffEarly,
        Self::RollBack,
        Self::AnswersForAnotherLife,
        Self::AnswersBeforeApplied,
        Self::ListedBeforeCommit,
        Self::SilenceIsAnAnswer,
    ];

    /// What is made with two admins: mistakes that one cannot make, and others that may look different there.
    pub(crate) const BETWEEN_ADMINS: [Self; 12] = [
        Self::OwnOnly,
        Self::StruckOffEarly,
        Self::HeartbeatWithoutRevision,
        Self::NotFifo,
        Self::RetryNoop,
        Self::ReleaseOnDisconnect,
        Self::GoodbyeKeepsLease,
        Self::RollBack,
        Self::AnswersForAnotherLife,
        Self::AnswersBeforeApplied,
        Self::ListedBeforeCommit,
        Self::SilenceIsAnAnswer,
    ];

    /// Whether it takes another admin that lives.
    pub(crate) fn needs_two_admins(self) -> bool {
        let two = [
            Self::RollBack,
            Self::AnswersForAnotherLife,
            Self::AnswersBeforeApplied,
            Self::ListedBeforeCommit,
            Self::SilenceIsAnAnswer,
        ];
        two.contains(&self)
    }

    /// Whether it can only be made where a database is shared.
    pub(crate) fn needs_a_shared_database(self) -> bool {
        let heartbeats = [Self::NoBasisCap, Self::BasisAtReply, Self::HeartbeatWithoutRevision];
        heartbeats.contains(&self) || self.needs_a_former_life()
    }

    /// Whether it also takes an admin that crashed.
    pub(crate) fn needs_a_former_life(self) -> bool {
        matches!(self, Self::OwnOnly | Self::StruckOffEarly)
    }
}
