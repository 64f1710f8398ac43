use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Epoch, Position, Revision};

use crate::admin::barrier::Cleared;
use crate::admin::fence::FenceId;
use crate::admin::sessions::SessionId;
use crate::policy::Policy;
use crate::time::Instant;

/// The circumstances in which a node starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The timing parameters.
    pub policy: Policy,
    /// The end of the log, up to which everything is loaded.
    pub head: Position,
    /// `true` if an owner has accepted the epoch, or the history never forked.
    pub accepted: bool,
    /// How long ago the epoch began, by the database's clock; `None` if the history never forked.
    pub forked_ago: Option<Duration>,
    /// The other users of the database.
    pub peers: PeerMode,
}

/// The other users of the database.
#[derive(Clone, Copy, Debug)]
pub enum PeerMode {
    /// This process has the database to itself.
    Alone {
        /// The policy by which an earlier process may have granted leases that are still in use; `None` if none may have.
        former_lives: Option<Policy>,
    },
    /// Other admins may use the database. `life` was registered before the log was read: an admin that lists the lives after a
    /// commit must find every life that read the log before the commit.
    Shared {
        /// The life that was registered.
        life: AdminLife,
    },
}

/// Something that has happened to an admin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The next entry of the log was read.
    Change(LogEntry),
    /// The delta of the newest entry is too large to be queued: every validator must take a snapshot.
    DeltaTooLarge,
    /// The log does not contain the head that this admin has applied.
    HeadMissing,
    /// A validator acknowledged a revision.
    Ack {
        /// Its session.
        session: SessionId,
        /// The revision.
        revision: Revision,
    },
    /// A validator asked for a lease.
    Renew {
        /// Its session.
        session: SessionId,
        /// The number of the renewal.
        seq: u64,
        /// The revision up to which its table holds everything that the session has sent.
        applied: Revision,
    },
    /// A validator has stopped answering under its session's lease.
    Goodbye(SessionId),
    /// The stream of a session is over.
    StreamBroke(SessionId),
    /// A heartbeat is about to be sent.
    HeartbeatSent {
        /// The newest position that this process knows to be in the log.
        seen: Option<Position>,
    },
    /// The last heartbeat is committed and has returned.
    HeartbeatAnswered {
        /// The end of the log.
        log: Position,
        /// The rows of all admins, this one included.
        nodes: Vec<AdminNode>,
    },
    /// A peer answered [`Effect::AskHeartbeat`], or did not answer.
    PeerHeartbeat {
        /// The life.
        life: AdminLife,
        /// This admin's clock before the peer was asked.
        asked: Instant,
        /// How long before its answer the peer had sent the newest heartbeat that its database has answered, by its own clock.
        /// `None` if there is none, if the peer is in another life, or if it did not answer.
        age: Option<Duration>,
    },
    /// The last heartbeat found no row of this life.
    Evicted,
    /// A new life is registered.
    Registered(AdminLife),
    /// The process is shutting down.
    Leaving,
    /// A change was committed at `revision`, and its fence begins.
    FenceBegan {
        /// The fence.
        fence: FenceId,
        /// The revision.
        revision: Revision,
    },
    /// A peer answered that its validators do not answer from before the fence's revision.
    PeerCleared {
        /// The fence.
        fence: FenceId,
        /// The life that answered.
        life: AdminLife,
        /// Its answer.
        cleared: Cleared,
    },
    /// The caller of the fence does not wait for it any more.
    FenceEnded(FenceId),
    /// The check of the history is complete: the database has an epoch that accounts for every position that was lost.
    HistoryChecked {
        /// `true` if the log lacked the node's head before the check.
        was_lost: bool,
        /// `true` if the log lacks the node's head after the check.
        is_lost: bool,
    },
    /// New connections to the database are in place.
    Reconnected,
    /// Everything up to `head` was loaded again, after [`Effect::Reload`].
    Reloaded {
        /// The end of the log.
        head: Position,
        /// `true` if an owner has accepted the epoch, or the history never forked.
        accepted: bool,
    },
}

/// One entry of the change log, without the keys that it changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// The revision.
    pub revision: Revision,
    /// The chain value at it.
    pub chain: [u8; 32],
    /// What the entry does to the history.
    pub kind: EntryKind,
    /// The position that this process has seen at this revision, if it is another one.
    pub conflict: Option<Position>,
    /// The sessions whose validators lose their right by this entry.
    pub revoked: Vec<SessionId>,
}

/// What an entry of the log does to the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// Nothing.
    Change,
    /// A new epoch begins: the database was found to have lost changes.
    EpochBegins(Epoch),
    /// An owner accepts the epoch.
    EpochAccepted,
}

/// What the caller must do after an event, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Apply the entry, and queue its delta to every session. The position is the one after the entry.
    Deliver(Position),
    /// Queue a lease to a session.
    Grant {
        /// The session.
        session: SessionId,
        /// The renewal that it answers.
        seq: u64,
        /// Its length, from before the renewal was sent.
        duration: Duration,
    },
    /// End the stream of a session without a Goodbye.
    End(SessionId),
    /// End every stream without a Goodbye.
    EndAll,
    /// Keep the position: it is known to be in the log.
    PositionSeen(Position),
    /// Read the log at once.
    ReadLog,
    /// Send a heartbeat at once.
    SendHeartbeat,
    /// Evict a life: delete its row, if its heartbeat counter is still the same.
    Evict(AdminNode),
    /// Ask the peer in that life for its newest answered heartbeat, because the database shows none.
    AskHeartbeat(AdminNode),
    /// Register a new life in the place of this one.
    Register,
    /// Delete the row of this life.
    Deregister(AdminLife),
    /// Look in the log for the head and for [`History::suspect`].
    CheckHistory,
    /// Make new connections to the database: the old connections may lead to a server that has been replaced.
    Reconnect,
    /// Load all keys and the end of the log again.
    Reload,
    /// A fence, a barrier of a peer, or the ability to grant may have changed.
    Moved,
}

/// How a session begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Joined {
    /// With the deltas after that revision, all of which are recent.
    WithDeltasAfter(Revision),
    /// With a snapshot of the head.
    WithSnapshot,
}

/// Why a validator cannot join now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotNow {
    /// The database may have lost changes; the admin is finding out.
    InDoubt,
    /// The validator knows more than this admin has applied.
    Behind,
}

/// Why no lease can be granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoGrants {
    /// The database may have lost changes; the admin is finding out.
    InDoubt,
    /// The database has not answered for as long as leases last.
    StaleBasis,
    /// No heartbeat of this life is committed yet.
    NoBasis,
}
