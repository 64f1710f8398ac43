//! Ways to get the protocol wrong. Each is a wrong use of a node or a follower, so that no server contains one.

/// One mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    /// A lease counts from the arrival of the grant.
    LeaseFromReceipt,
    /// A lease counts from the newest renewal, whichever the grant answers.
    LeaseFromNewestRenewal,
    /// A validation reads the table before the lease.
    TableBeforeLease,
    /// A validator acknowledges what it has received and not applied.
    AckBeforeApply,
    /// A retry finds the token inactive and returns at once.
    RetryReturnsAtOnce,
    /// An admin does not wait for the leases of its former lives.
    RestartForgets,
    /// An admin waits for leases as its last life granted them, not for longer ones of a life before.
    OnlyLastLife,
    /// An admin takes a broken stream for a Goodbye.
    ReleaseOnDisconnect,
    /// A validator sends Goodbye and goes on answering under its lease.
    GoodbyeKeepsLease,
    /// A validator sends Goodbye first and drops its lease later.
    GoodbyeBeforeLeaseDropped,
    /// A validator's clock stands still while its machine sleeps.
    ClockStopsInSleep,
    /// No margin for the error of clocks.
    NoMargin,
    /// A grant overtakes what was queued before it.
    GrantOvertakes,
    /// Deactivate waits for the revision that its admin has applied, not for the one that it committed.
    FenceOfAppliedRevision,
    /// A session is counted only some time after its snapshot was taken.
    JoinAfterSnapshot,
    /// A fence begins again for the newest change at every renewal.
    FenceOfNewestRevision,
    /// An admin that shares its database grants whole leases, however long ago its last heartbeat was.
    BasisWithoutHeartbeat,
    /// Leases are chained to the answer of a heartbeat, not to its sending.
    BasisAtReply,
    /// An admin takes the revision that it has applied for the newest one.
    HeartbeatWithoutRevision,
    /// A fence waits for the sessions of its own life only.
    OwnLifeOnly,
    /// An admin evicts another life as soon as it sees it.
    EvictedTooEarly,
    /// An admin does not ask a peer without heartbeats for newer ones.
    PeersUnasked,
    /// A validator that moves to an admin which is behind starts over from its snapshot, and keeps its lease.
    ValidatorGoesBack,
    /// An admin answers a peer's barrier for whichever of its lives is asked.
    AnswersForAnotherLife,
    /// An admin answers a peer's barrier for what it has applied, not for what it is asked.
    AnswersBeforeApplied,
    /// A fence begins when the call arrives, before the commit, so that an earlier listing satisfies it.
    FenceBeforeCommit,
    /// An admin takes the end of a connection to a peer for the peer's answer.
    SilenceIsAnAnswer,
    /// A fence whose history changed begins again with the same revision number.
    FenceSurvivesFork,
    /// An admin that starts after a fork does not wait for the leases of the lost history.
    StartAfterForkForgets,
    /// An admin that takes up another history does not wait for the leases of the lost one.
    LeaseSurvivesFork,
    /// An admin has the database withhold what its own log refused, not what was withheld before.
    WithheldDroppedOnSecondFork,
    /// An admin does not check that what it loads after a fork contains what mended the history.
    ReloadUnchecked,
    /// An admin forgets, once the history is mended, what it has committed and not applied yet.
    SeenForgotten,
    /// An admin withholds what a validator reports in a log that lacks a change which the admin has committed.
    ReportUnchecked,
    /// An admin that should be in doubt about the history goes on granting.
    DoubtIgnored,
    /// An admin does not look for the position of a validator that knows more than the log.
    SuspectIgnored,
    /// An admin welcomes every validator as if its history contained the validator's position.
    WelcomeAlwaysContinues,
    /// An admin compares the position of a Hello by its revision alone.
    PositionByRevisionOnly,
}

impl Mutant {
    pub(crate) const ALL: [Self; 38] = [
        Self::LeaseFromReceipt,
        Self::LeaseFromNewestRenewal,
        Self::TableBeforeLease,
        Self::AckBeforeApply,
        Self::RetryReturnsAtOnce,
        Self::RestartForgets,
        Self::OnlyLastLife,
        Self::ReleaseOnDisconnect,
        Self::GoodbyeKeepsLease,
        Self::GoodbyeBeforeLeaseDropped,
        Self::ClockStopsInSleep,
        Self::NoMargin,
        Self::GrantOvertakes,
        Self::FenceOfAppliedRevision,
        Self::JoinAfterSnapshot,
        Self::FenceOfNewestRevision,
        Self::BasisWithoutHeartbeat,
        Self::BasisAtReply,
        Self::HeartbeatWithoutRevision,
        Self::OwnLifeOnly,
        Self::EvictedTooEarly,
        Self::PeersUnasked,
        Self::ValidatorGoesBack,
        Self::AnswersForAnotherLife,
        Self::AnswersBeforeApplied,
        Self::FenceBeforeCommit,
        Self::SilenceIsAnAnswer,
        Self::FenceSurvivesFork,
        Self::StartAfterForkForgets,
        Self::LeaseSurvivesFork,
        Self::WithheldDroppedOnSecondFork,
        Self::ReloadUnchecked,
        Self::SeenForgotten,
        Self::ReportUnchecked,
        Self::DoubtIgnored,
        Self::SuspectIgnored,
        Self::WelcomeAlwaysContinues,
        Self::PositionByRevisionOnly,
    ];
}
