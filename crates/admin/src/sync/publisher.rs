use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_domain::{AdminNode, Change, Epoch, Error, LoggedChange, Position, Revision};
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{Grant, SyncResponse};
use keyward_replica::{AnyClock, Clock, Policy, SessionId, Sessions};
use keyward_store::Store;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::sync::heartbeat::Shared;
use crate::sync::image::{Chunk, Image};
use crate::sync::peers::{PeerOptions, Peers};
use crate::sync::policy::{Agreed, agree, agreed, expect_external_leases};
use crate::sync::state::{Principal, State, StreamTo};
use crate::sync::withheld::Withheld;

/// Changes read from the log at once.
const PAGE: u64 = 512;

/// Messages that may wait for one session. A validator that falls further behind is cut off and comes back.
const QUEUE: usize = 8_192;

/// For so long after a fork, by the database's clock, an admin that starts reckons with leases of the former history. Much
/// longer than they last: clocks of database servers differ.
const RECENT_FORK: Duration = Duration::from_secs(60 * 60);

/// How long to wait at most before looking at the log without a hint.
const POLL: Duration = Duration::from_secs(1);

/// How long the database may take to answer: a connection that was cut off in silence must not be waited on for ever.
const ANSWER: Duration = Duration::from_secs(5);

/// Follows the change log and hands every change to every session, in order.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    clock: AnyClock,
    metrics: Metrics,
    /// What a fence may have to wait at most for leases of former lives; not where those have rows of their own.
    former_wait: Duration,
    hint: Notify,
    beat_now: Notify,
    listen_again: Notify,
    state: Mutex<State>,
    /// Ticks whenever a fence may have moved.
    moved: watch::Sender<()>,
    /// The admins that share the database, if they can be asked.
    peers: Option<Peers>,
}

/// A session that has begun.
pub(super) struct Joined {
    pub(super) id: SessionId,
    /// What the validator lacks, if it must take a snapshot; else the queue begins with the deltas that it lacks.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) epoch: Epoch,
    /// See [`State::accepted`].
    pub(super) accepted: bool,
    pub(super) queue: mpsc::Receiver<SyncResponse>,
    /// Ends when the session is ended from here: then nothing more is said.
    pub(super) ended: oneshot::Receiver<()>,
}

/// All keys as of one revision.
pub(super) struct Snapshot {
    pub(super) chunks: Vec<Chunk>,
    pub(super) revision: Revision,
    /// As validators are told it.
    pub(super) chain: Vec<u8>,
    pub(super) withheld: Withheld,
}

impl Publisher {
    /// Loads the image. `lease`: a D to agree on from now on, if it is to change. `peers`: how to reach the admins that share
    /// the database.
    pub(crate) async fn load(
        store: Store,
        metrics: Metrics,
        lease: Option<Duration>,
        peers: Option<PeerOptions>,
        clock: AnyClock,
    ) -> Result<Self, Error> {
        let peers = peers.map(Peers::new);
        let (Agreed { policy, former_lives }, shared) = if store.is_shared() {
            let policy = agreed(&store).await?;
            // Before anything is read: who lists after a commit must find every life that read before it.
            let shared = Shared::register(&store, &policy, peers.as_ref().map(Peers::address)).await?;
            (Agreed { policy, former_lives: None }, Some(shared))
        } else {
            (agree(&store, lease).await?, None)
        };
        let mut image = Image::default();
        let history = store.load_history(|entry| image.put(entry)).await?;
        let Position { epoch, revision, chain } = history.head;
        let asked_at = clock.now();
        let wall = (store.now().await?, asked_at);
        // Leases of the former history may be in use, of admins that this one knows nothing of.
        let fork_is_recent = history.forked.is_some_and(|time| wall.0 < time.plus(RECENT_FORK));
        let former_lives = former_lives.or(fork_is_recent.then_some(policy));
        let mut withheld = Withheld::default();
        withheld.extend(history.withheld);
        tracing::info!(%revision, keys = image.len(), lease_ms = policy.lease.as_millis(), "image loaded");
        let mut state = State {
            clock: clock.clone(),
            image,
            epoch: epoch.into(),
            revision,
            chain,
            withheld,
            unknown: Vec::new(),
            accepted: history.accepted,
            in_doubt: false,
            doubts: 0,
            suspicion: None,
            recent: VecDeque::new(),
            sessions: Sessions::new(policy, former_lives, clock.now()),
            shared,
            streams: HashMap::new(),
            next_session: 0,
            wall,
        };
        state.note_applied();
        store.record_published(state.known());
        metrics.history(state.withheld.len(), state.accepted);
        Ok(Self {
            store,
            clock,
            metrics,
            former_wait: former_lives.map_or(Duration::ZERO, |former| former.wait_out()),
            hint: Notify::new(),
            beat_now: Notify::new(),
            listen_again: Notify::new(),
            state: Mutex::new(state),
            moved: watch::Sender::new(()),
            peers,
        })
    }

    /// Says that the log has grown.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Says that the log reaches a revision, to the other admins too; nobody waits for it.
    pub(crate) fn announce(&self, revision: Revision) {
        self.hint();
        if let (Some(peers), Some(others)) = (&self.peers, self.others()) {
            peers.hint(&others, revision);
        }
    }

    /// Somebody says that the log reaches a revision.
    pub(crate) fn hinted(&self, revision: Revision) {
        if self.lock().revision < revision {
            self.hint();
        }
    }

    /// The other admins that share the database, as they were last listed.
    pub(super) fn others(&self) -> Option<Vec<AdminNode>> {
        self.with_shared(|shared| shared.others().cloned().collect())
    }

    pub(super) const fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// Asks for a heartbeat at once, if this admin has any.
    pub(super) const fn beat_now(&self) -> &Notify {
        &self.beat_now
    }

    /// Asks for new connections to listen on.
    pub(super) const fn listen_again(&self) -> &Notify {
        &self.listen_again
    }

    /// What leases are judged by.
    pub(super) const fn clock(&self) -> &AnyClock {
        &self.clock
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Says that a fence may have moved.
    pub(super) fn moved(&self) {
        self.moved.send_replace(());
    }

    /// Ticks whenever a fence may have moved.
    pub(super) fn movements(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Follows the log, and tells others of this admin's life, until the future is dropped.
    pub(crate) async fn run(&self) {
        if self.lock().shared.is_some() {
            tokio::join!(self.follow(), self.beat(), self.listen_for_hints());
        } else {
            self.follow().await;
        }
    }

    async fn follow(&self) {
        loop {
            if let Err(error) = self.look_at_the_log().await {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(%error, detail, "cannot read the change log; validators are not fed");
            }
            // A tick keeps the wall clock fresh and finds changes that another admin made.
            let _ = tokio::time::timeout(POLL, self.hint.notified()).await;
        }
    }

    async fn look_at_the_log(&self) -> Result<(), Error> {
        self.catch_up().await?;
        // Last: that there is doubt about the history keeps nobody from being fed.
        self.mend().await
    }

    async fn catch_up(&self) -> Result<(), Error> {
        loop {
            let known = self.lock().known();
            let asked = tokio::time::timeout(ANSWER, self.store.changes_following(&known, PAGE)).await;
            let changes = asked.unwrap_or_else(|_| Err(Error::store_unavailable("no answer to a look at the log")))?;
            let Some(changes) = changes else {
                self.lock().doubt();
                return Ok(());
            };
            if changes.is_empty() {
                break;
            }
            if !self.publish(changes) {
                return Ok(());
            }
        }
        if self.lock().shared.is_some() {
            // Heartbeats bring the time.
            return Ok(());
        }
        // Our clock first: what the question takes makes the wall clock run ahead then, and never behind, so no key is
        // accepted after its expiry.
        let asked_at = self.clock.now();
        let now = self.store.now().await?;
        self.lock().wall = (now, asked_at);
        Ok(())
    }

    /// Hands changes out, up to the first that cannot be: at that revision the log was seen to have another one. Whether
    /// there was none.
    fn publish(&self, changes: Vec<LoggedChange>) -> bool {
        let wait_out = self.longest_wait();
        let mut state = self.lock();
        let (mut sound, mut entered) = (true, false);
        for change in changes {
            let place = Position { revision: change.revision, chain: change.chain, ..state.known() };
            if let Some(seen) = self.store.conflicting_position(&place) {
                state.suspicion = Some(seen);
                state.doubt();
                sound = false;
                break;
            }
            if let Change::HistoryForked { epoch, .. } = &change.change {
                self.metrics.forked();
                state.enter(*epoch, wait_out);
                entered = true;
            }
            let proven = self.store.sign_position(&Position { epoch: state.epoch, ..place });
            state.publish(change, proven);
        }
        if sound {
            state.note_applied();
        }
        self.note(&state);
        drop(state);
        if entered {
            // Until a heartbeat of the new epoch is answered there are no leases.
            self.beat_now.notify_one();
        }
        self.moved();
        sound
    }

    /// Tells whoever must know how far this admin has come.
    pub(super) fn note(&self, state: &State) {
        self.store.record_published(state.known());
        self.metrics.revision.set(state.revision.0);
        self.metrics.connected(&state.sessions);
        self.metrics.history(state.withheld.len(), state.accepted);
    }

    /// What leases are counted by.
    pub(crate) fn policy(&self) -> Policy {
        *self.lock().sessions.policy()
    }

    /// What a fence may have to wait at most.
    pub(crate) fn longest_wait(&self) -> Duration {
        let state = self.lock();
        let policy = *state.sessions.policy();
        let shared = state.shared.as_ref().map_or(Duration::ZERO, |shared| shared.longest_wait(&policy));
        policy.wait_out().max(shared).max(self.former_wait)
    }

    /// Waits until grants are possible. Cancel safe.
    pub(crate) async fn ready(&self) {
        let mut moved = self.movements();
        while !self.can_grant() && moved.changed().await.is_ok() {}
    }

    /// Whether grants are possible.
    pub(crate) fn can_grant(&self) -> bool {
        self.why_no_grants().is_none()
    }

    /// Why grants are not possible, if they are not.
    pub(crate) fn why_no_grants(&self) -> Option<&'static str> {
        let state = self.lock();
        let now = self.clock.now();
        if state.in_doubt {
            return Some("the database may have lost changes that validators know; finding out");
        }
        match state.basis(now) {
            Some(basis) if now.since(basis) < state.sessions.policy().lease => None,
            Some(_) => Some("the database has not answered for as long as leases last"),
            None => Some("no heartbeat is committed yet"),
        }
    }

    /// Waits until `revision` is published, for `limit` at most. Whether it is.
    pub(super) async fn reach(&self, revision: Revision, limit: Duration) -> bool {
        self.hint();
        let reached = async {
            let mut moved = self.movements();
            while self.lock().revision < revision {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, reached).await.is_ok()
    }

    /// Looks at what only an admin with others has.
    pub(super) fn with_shared<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> Option<T> {
        self.lock().shared.as_mut().map(look)
    }

    /// Notes that a validator of another process is about to get leases. Durable when it returns.
    pub(super) async fn expect_external_leases(&self) -> Result<(), Error> {
        // Where others share the database each life has a row instead.
        if self.store.is_shared() {
            return Ok(());
        }
        expect_external_leases(&self.store).await
    }

    /// Begins a session for a validator that stands at `place`, if it does not want a snapshot anyway. `None`: not now.
    pub(super) fn join(&self, place: Option<&Position>, principal: Option<Principal>) -> Option<Joined> {
        let mut state = self.lock();
        if state.in_doubt {
            return None;
        }
        let id = SessionId(state.next_session);
        state.next_session += 1;
        let (sender, queue) = mpsc::channel(QUEUE);
        let (alive, ended) = oneshot::channel();
        let place = place.filter(|place| place.epoch == state.known().epoch);
        let missed = place.and_then(|place| state.missed_since(place.revision, &place.chain));
        let snapshot = match missed {
            Some(deltas) => {
                for delta in deltas {
                    // There is room: RECENT is less than QUEUE.
                    let _ = sender.try_send(message(Message::Delta(delta)));
                }
                None
            }
            None => Some(Snapshot {
                chunks: state.image.snapshot(),
                revision: state.revision,
                chain: self.store.sign_position(&state.known()),
                withheld: state.withheld.clone(),
            }),
        };
        state.sessions.join(id);
        state.streams.insert(id, StreamTo { queue: sender, _alive: alive, principal });
        self.metrics.connected(&state.sessions);
        Some(Joined { id, snapshot, epoch: state.epoch, accepted: state.accepted, queue, ended })
    }

    /// A session's stream broke; its lease counts on.
    pub(super) fn broke(&self, id: SessionId) {
        self.end(id, Sessions::broke);
    }

    /// A validator said Goodbye: it has stopped answering under this session's lease.
    pub(super) fn goodbye(&self, id: SessionId) {
        self.end(id, Sessions::goodbye);
    }

    fn end(&self, id: SessionId, how: fn(&mut Sessions, SessionId)) {
        let mut state = self.lock();
        how(&mut state.sessions, id);
        state.streams.remove(&id);
        state.sessions.forget_lapsed(self.clock.now());
        self.metrics.connected(&state.sessions);
        drop(state);
        self.moved();
    }

    /// A session has applied a revision.
    pub(super) fn ack(&self, id: SessionId, revision: Revision) {
        self.lock().ack(id, revision);
        self.moved();
    }

    /// Answers a renewal, behind every delta that was published before it; not at all if nothing may be granted.
    pub(super) fn renew(&self, id: SessionId, seq: u64, applied: Revision) {
        let mut state = self.lock();
        let now = self.clock.now();
        state.ack(id, applied);
        let Some(basis) = state.basis(now) else { return };
        let Some(duration) = state.sessions.grant(id, basis, now) else { return };
        let (wall, read_at) = state.wall;
        let grant = Grant {
            seq,
            duration: prost_types::Duration::try_from(duration).ok(),
            wall_time_micros: wall.plus(now.since(read_at)).as_micros(),
        };
        state.send(id, message(Message::Grant(grant)));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in here would be a defect of its own; the data is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const fn message(message: Message) -> SyncResponse {
    SyncResponse { message: Some(message) }
}
