use std::collections::{BTreeSet, HashMap, VecDeque};

use keyward_domain::{
    Change, Epoch, LoggedChange, MemberId, Permission, Position, Revision, Timestamp, Uid, WithheldToken, allows,
};
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{Delta, KeyEntry, SyncResponse};
use keyward_protocol::Instant;
use keyward_protocol::admin::{EntryKind, Event, FenceId, Joined, LogEntry, Node, NotNow, SessionId};
use keyward_store::History;
use keyward_token::Digest;
use tokio::sync::{mpsc, oneshot};

use crate::auth::Caller;
use crate::sync::image::{Chunk, Image};
use crate::sync::withheld::Withheld;

/// The largest number of keys in a delta. A change with more keys reaches validators in a snapshot.
const MAX_KEYS: usize = 10_000;

/// The most messages that wait for one session, more than the node's recent deltas. A validator that lags further behind is
/// disconnected, and reconnects.
const QUEUE: usize = 8_192;

/// The node, and what validators are fed from. The [`crate::sync::Publisher`] keeps it behind one mutex.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) node: Node,
    pub(super) image: Image,
    /// The withheld tokens: a lost history denied them, so validators must deny them.
    pub(super) withheld: Withheld,
    /// Tokens that a lost history denied, and that this history does not contain. Another restore may bring them back.
    unknown: Vec<WithheldToken>,
    /// The deltas of the node's recent positions, in the same order.
    deltas: VecDeque<Delta>,
    streams: HashMap<SessionId, StreamTo>,
    next_session: u64,
    next_fence: u64,
    /// The database's clock, and this machine's clock when it was read or earlier.
    pub(super) wall: (Timestamp, Instant),
}

/// The outgoing stream of a session.
#[derive(Debug)]
struct StreamTo {
    queue: mpsc::Sender<SyncResponse>,
    /// Ends the session when it is dropped.
    _alive: oneshot::Sender<()>,
    /// `None` for the validator in this process.
    principal: Option<Principal>,
}

/// The member and the credential that a session was authenticated by.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) member: MemberId,
    pub(crate) credential: Digest,
}

/// A session that has begun.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// What the validator must take first; `None` if the queue begins with the deltas that it lacks.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) epoch: Epoch,
    /// `true` if an owner has accepted the epoch, or the history never forked.
    pub(super) accepted: bool,
    pub(super) queue: mpsc::Receiver<SyncResponse>,
    /// Resolves when this admin ends the session. Nothing is sent afterwards.
    pub(super) ended: oneshot::Receiver<()>,
}

/// All keys as of one position.
pub(super) struct Snapshot {
    pub(super) chunks: Vec<Chunk>,
    pub(super) position: Position,
    pub(super) withheld: Withheld,
}

impl Principal {
    pub(super) fn of(caller: &Caller) -> Self {
        Self { member: caller.id.clone(), credential: caller.credential }
    }

    /// Returns `true` if the change takes the right to the session away.
    fn is_revoked_by(&self, change: &Change) -> bool {
        match change {
            Change::RoleRevoked { after, .. } => {
                after.id == self.member && !allows(&after.roles, Permission::Sync, None)
            }
            Change::CredentialRevoked { credential, .. } => *credential == self.credential,
            _ => false,
        }
    }
}

impl Feed {
    pub(super) fn new(node: Node, image: Image, withheld: Withheld, wall: (Timestamp, Instant)) -> Self {
        Self {
            node,
            image,
            withheld,
            unknown: Vec::new(),
            deltas: VecDeque::new(),
            streams: HashMap::new(),
            next_session: 0,
            next_fence: 0,
            wall,
        }
    }

    /// The newest revision that was delivered.
    pub(super) fn revision(&self) -> Revision {
        self.node.history().head().revision
    }

    /// The database's clock, as this machine's clock extrapolates it to `now`.
    pub(super) fn wall_time(&self, now: Instant) -> Timestamp {
        let (wall, read_at) = self.wall;
        wall.plus(now.since(read_at))
    }

    /// Returns `true` if validators deny the newest token of the key because a lost history denied it.
    pub(super) fn is_withheld(&self, key: &Uid, now: Instant) -> bool {
        let entry = self.image.get(key);
        entry.is_some_and(|entry| self.withheld.is_withheld(entry, self.wall_time(now)))
    }

    /// Every token that is denied now or from a known instant on, in the history that this admin follows.
    pub(super) fn refused(&self) -> impl FnOnce() -> Vec<WithheldToken> + use<> {
        // Computed without the lock: all keys are looked through.
        let (chunks, withheld, unknown) = (self.image.snapshot(), self.withheld.clone(), self.unknown.clone());
        move || {
            let keys = chunks.iter().flat_map(|chunk| chunk.iter());
            keys.flat_map(|entry| withheld.apply(entry).ends().collect::<Vec<_>>()).chain(unknown).collect()
        }
    }

    /// The tokens in `reported` that this admin's history accepts beyond the instant from which a validator denies them.
    pub(super) fn accepted_longer(&self, reported: Vec<WithheldToken>) -> Vec<WithheldToken> {
        let is_accepted_longer = |token: &WithheldToken| {
            let Some(entry) = self.image.get(&token.key).filter(|_| self.image.has(token)) else { return false };
            let end = self.withheld.apply(entry).ends().find(|end| end.digest == token.digest);
            end.is_none_or(|end| token.from < end.from)
        };
        reported.into_iter().filter(is_accepted_longer).collect()
    }

    // === the log ===

    /// The entry as the node takes it. `conflict`: another position that this process has seen at its revision.
    pub(super) fn entry(&self, logged: &LoggedChange, conflict: Option<Position>) -> LogEntry {
        let kind = match &logged.change {
            Change::HistoryForked { epoch, .. } => EntryKind::EpochBegins(*epoch),
            Change::EpochAccepted { .. } => EntryKind::EpochAccepted,
            _ => EntryKind::Change,
        };
        let is_revoked = |stream: &StreamTo| {
            stream.principal.as_ref().is_some_and(|principal| principal.is_revoked_by(&logged.change))
        };
        let revoked = self.streams.iter().filter(|(_, stream)| is_revoked(stream)).map(|(id, _)| *id).collect();
        LogEntry { revision: logged.revision, chain: logged.chain, kind, conflict, revoked }
    }

    /// Applies a change, and queues its delta to every session. `chain`: the signed chain value after the change.
    pub(super) fn deliver(&mut self, logged: LoggedChange, chain: Vec<u8>, now: Instant) {
        let epoch_accepted = matches!(logged.change, Change::EpochAccepted { .. });
        let keys = self.apply(logged.change);
        let delta = Delta { revision: logged.revision.0, chain, keys, epoch_accepted };
        if delta.keys.len() > MAX_KEYS {
            self.node.handle(Event::DeltaTooLarge, now);
            self.deltas.clear();
            self.streams.clear();
            return;
        }
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.send(id, Message::Delta(delta.clone()), now);
        }
        self.deltas.push_back(delta);
        while self.deltas.len() > self.node.history().recent().len() {
            self.deltas.pop_front();
        }
    }

    /// Applies a change to the image. Returns the keys that validators must take.
    fn apply(&mut self, change: Change) -> Vec<KeyEntry> {
        let affected: BTreeSet<Uid> = match change {
            Change::TokensWithheld { tokens, .. } => {
                let keys = tokens.iter().map(|token| token.key).collect();
                self.withheld.extend(tokens);
                keys
            }
            Change::EpochAccepted { .. } => {
                self.unknown.clear();
                std::mem::take(&mut self.withheld).keys().collect()
            }
            other => {
                let entries = other.into_entries();
                let encoded = entries.iter().map(|entry| self.withheld.encode(entry)).collect();
                for entry in entries {
                    self.image.put(entry);
                }
                return encoded;
            }
        };
        affected.iter().filter_map(|uid| self.image.get(uid)).map(|entry| self.withheld.encode(entry)).collect()
    }

    /// Replaces everything with what the database has now. `refused`: the tokens that this admin has seen denied.
    pub(super) fn reload(&mut self, image: Image, history: History, refused: Vec<WithheldToken>) {
        self.image = image;
        self.unknown = if history.accepted { Vec::new() } else { refused };
        self.unknown.retain(|token| !self.image.has(token));
        self.withheld = Withheld::default();
        self.withheld.extend(history.withheld);
        self.deltas.clear();
    }

    /// The id of a fence that is about to begin.
    pub(super) const fn next_fence(&mut self) -> FenceId {
        self.next_fence += 1;
        FenceId(self.next_fence)
    }

    // === sessions ===

    /// Begins a session. `from`: the position that the validator continues from; `None` if it takes a snapshot.
    ///
    /// # Errors
    /// [`NotNow::InDoubt`].
    pub(super) fn join(&mut self, from: Option<&Position>, principal: Option<Principal>) -> Result<Session, NotNow> {
        let id = SessionId(self.next_session);
        let joined = self.node.join(id, from)?;
        self.next_session += 1;
        let (sender, queue) = mpsc::channel(QUEUE);
        let (alive, ended) = oneshot::channel();
        let head = self.node.history().head();
        let snapshot = match joined {
            Joined::WithDeltasAfter(revision) => {
                for delta in self.deltas.iter().filter(|delta| delta.revision > revision.0) {
                    // There is room: the node keeps fewer recent positions than the queue takes.
                    let _ = sender.try_send(response(Message::Delta(delta.clone())));
                }
                None
            }
            Joined::WithSnapshot => {
                Some(Snapshot { chunks: self.image.snapshot(), position: head, withheld: self.withheld.clone() })
            }
        };
        self.streams.insert(id, StreamTo { queue: sender, _alive: alive, principal });
        let accepted = self.node.history().is_accepted();
        Ok(Session { id, snapshot, epoch: head.epoch, accepted, queue, ended })
    }

    /// Queues a message to a session. A session whose queue is full is ended, because its stream must not have a gap.
    pub(super) fn send(&mut self, id: SessionId, message: Message, now: Instant) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.queue.try_send(response(message)).is_err() {
            tracing::warn!(session = id.0, "a validator is too slow, or gone; its session ends");
            self.node.handle(Event::StreamBroke(id), now);
            self.streams.remove(&id);
        }
    }

    /// Ends the stream of a session.
    pub(super) fn end(&mut self, id: SessionId) {
        self.streams.remove(&id);
    }

    /// Ends every stream.
    pub(super) fn end_all(&mut self) {
        self.streams.clear();
        self.deltas.clear();
    }
}

pub(super) const fn response(message: Message) -> SyncResponse {
    SyncResponse { message: Some(message) }
}
