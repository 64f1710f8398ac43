use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_domain::{Change, Error, LoggedChange, MemberId, Permission, Revision, Timestamp, allows};
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{Delta, Grant, SyncResponse};
use keyward_replica::{AnyClock, Clock, Instant, Policy, SessionId, Sessions};
use keyward_store::{Head, Store};
use keyward_sync::wire;
use keyward_token::Digest;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::app::Caller;
use crate::metrics::Metrics;
use crate::sync::heartbeat::Shared;
use crate::sync::image::{Chunk, Image};
use crate::sync::policy::{Agreed, agree, agreed, expect_external_leases};

/// Changes read from the log at once.
const PAGE: u64 = 512;

/// Deltas kept for validators that come back: those that missed more take a snapshot.
const RECENT: usize = 4_096;

/// Messages that may wait for one session. A validator that falls further behind is cut off and comes back.
const QUEUE: usize = 8_192;

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
    epoch: String,
    /// What a fence may have to wait at most for leases of former lives; not where those have rows of their own.
    former_wait: Duration,
    hint: Notify,
    beat_now: Notify,
    listen_again: Notify,
    state: Mutex<State>,
    /// Ticks whenever a fence may have moved.
    moved: watch::Sender<()>,
}

/// What publishing, sessions and fences look at together.
#[derive(Debug)]
pub(super) struct State {
    /// What leases are judged by.
    pub(super) clock: AnyClock,
    image: Image,
    pub(super) revision: Revision,
    chain: [u8; 32],
    recent: VecDeque<Delta>,
    pub(super) sessions: Sessions,
    /// Set when other admins may use the same database.
    pub(super) shared: Option<Shared>,
    streams: HashMap<SessionId, StreamTo>,
    next_session: u64,
    /// The database's clock, and ours when we read it.
    pub(super) wall: (Timestamp, Instant),
}

/// Where a session's messages go.
#[derive(Debug)]
struct StreamTo {
    queue: mpsc::Sender<SyncResponse>,
    /// Dropped with this.
    _alive: oneshot::Sender<()>,
    /// `None`: the validator in this process.
    principal: Option<Principal>,
}

/// By whose right a session runs.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) member: MemberId,
    pub(crate) credential: Digest,
}

impl Principal {
    /// The right of whoever calls.
    pub(super) fn of(caller: &Caller) -> Self {
        Self { member: caller.id.clone(), credential: caller.credential }
    }

    /// Whether this change takes the right away.
    fn loses_by(&self, change: &Change) -> bool {
        match change {
            Change::RoleRevoked { after, .. } => {
                after.id == self.member && !allows(&after.roles, Permission::Sync, None)
            }
            Change::CredentialRevoked { credential, .. } => *credential == self.credential,
            _ => false,
        }
    }
}

/// A place in the log that was published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    revision: Revision,
    chain: [u8; 32],
}

impl Known {
    /// Whether that place is not in the history of which this is the head, as it was read afterwards.
    pub(super) fn is_contradicted_by(&self, head: &Head) -> bool {
        head.revision < self.revision || (head.revision == self.revision && head.chain != self.chain)
    }
}

/// A session that has begun.
pub(super) struct Joined {
    pub(super) id: SessionId,
    /// What the validator lacks, if it must take a snapshot; else the queue begins with the deltas that it lacks.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) queue: mpsc::Receiver<SyncResponse>,
    /// Ends when the session is ended from here: then nothing more is said.
    pub(super) ended: oneshot::Receiver<()>,
}

/// All keys as of one revision.
pub(super) struct Snapshot {
    pub(super) chunks: Vec<Chunk>,
    pub(super) revision: Revision,
    pub(super) chain: [u8; 32],
}

impl Publisher {
    /// Loads the image. `lease`: a D to agree on from now on, if it is to change.
    pub(crate) async fn load(
        store: Store,
        metrics: Metrics,
        lease: Option<Duration>,
        clock: AnyClock,
    ) -> Result<Self, Error> {
        let (Agreed { policy, former_lives }, shared) = if store.is_shared() {
            let policy = agreed(&store).await?;
            // Before anything is read: who lists after a commit must find every life that read before it.
            let shared = Shared::register(&store, &policy).await?;
            (Agreed { policy, former_lives: None }, Some(shared))
        } else {
            (agree(&store, lease).await?, None)
        };
        let mut image = Image::default();
        let Head { epoch, revision, chain } = store.load_image(|entry| image.put(entry)).await?;
        let asked_at = clock.now();
        let wall = (store.now().await?, asked_at);
        metrics.revision.set(revision.0);
        tracing::info!(%revision, keys = image.len(), lease_ms = policy.lease.as_millis(), "image loaded");
        let mut state = State {
            clock: clock.clone(),
            image,
            revision,
            chain,
            recent: VecDeque::new(),
            sessions: Sessions::new(policy, former_lives, clock.now()),
            shared,
            streams: HashMap::new(),
            next_session: 0,
            wall,
        };
        state.note_applied();
        Ok(Self {
            store,
            clock,
            metrics,
            epoch: epoch.to_string(),
            former_wait: former_lives.map_or(Duration::ZERO, |former| former.wait_out()),
            hint: Notify::new(),
            beat_now: Notify::new(),
            listen_again: Notify::new(),
            state: Mutex::new(state),
            moved: watch::Sender::new(()),
        })
    }

    /// Random id of the history that this publisher follows.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Says that the log has grown.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
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
            if let Err(error) = self.catch_up().await {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(%error, detail, "cannot read the change log; validators are not fed");
            }
            // A tick keeps the wall clock fresh and finds changes that another admin made.
            let _ = tokio::time::timeout(POLL, self.hint.notified()).await;
        }
    }

    async fn catch_up(&self) -> Result<(), Error> {
        loop {
            let after = self.lock().revision;
            let asked = tokio::time::timeout(ANSWER, self.store.changes_after(after, PAGE)).await;
            let changes = asked.unwrap_or_else(|_| Err(Error::store_unavailable("no answer to a look at the log")))?;
            if changes.is_empty() {
                break;
            }
            self.publish(changes);
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

    fn publish(&self, changes: Vec<LoggedChange>) {
        let mut state = self.lock();
        for change in changes {
            state.publish(change);
        }
        self.metrics.revision.set(state.revision.0);
        state.note_applied();
        self.metrics.connected(&state.sessions);
        drop(state);
        self.moved();
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
        if state.shared.as_ref().is_some_and(|shared| shared.forked) {
            return Some("the database has lost changes that validators know");
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

    /// Begins a session for a validator that has `revision` of `epoch`, with that chain value.
    pub(super) fn join(&self, epoch: &str, revision: Revision, chain: &[u8], principal: Option<Principal>) -> Joined {
        let mut state = self.lock();
        let id = SessionId(state.next_session);
        state.next_session += 1;
        let (sender, queue) = mpsc::channel(QUEUE);
        let (alive, ended) = oneshot::channel();
        let missed = if epoch == self.epoch { state.missed_since(revision, chain) } else { None };
        let snapshot = match missed {
            Some(deltas) => {
                for delta in deltas {
                    // There is room: RECENT is less than QUEUE.
                    let _ = sender.try_send(message(Message::Delta(delta)));
                }
                None
            }
            None => Some(Snapshot { chunks: state.image.snapshot(), revision: state.revision, chain: state.chain }),
        };
        state.sessions.join(id);
        state.streams.insert(id, StreamTo { queue: sender, _alive: alive, principal });
        self.metrics.connected(&state.sessions);
        Joined { id, snapshot, queue, ended }
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
        self.lock().sessions.ack(id, revision);
        self.moved();
    }

    /// Answers a renewal, behind every delta that was published before it; not at all if nothing may be granted.
    pub(super) fn renew(&self, id: SessionId, seq: u64, applied: Revision) {
        let mut state = self.lock();
        let now = self.clock.now();
        state.sessions.ack(id, applied);
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

// === impl State ===

impl State {
    /// An instant at which this admin knew all of the log.
    ///
    /// It is now where this process alone writes the database. A commit that is not published yet is no trouble then, for
    /// its delta will find this lease on record, and its fence will wait for it.
    fn basis(&self, now: Instant) -> Option<Instant> {
        self.shared.as_ref().map_or(Some(now), |shared| shared.basis.since())
    }

    /// The end of what is published.
    pub(super) const fn known(&self) -> Known {
        Known { revision: self.revision, chain: self.chain }
    }

    /// Notes what is applied, for grants and for what is enforced.
    fn note_applied(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.basis.applied(self.revision);
            shared.settled.applied(self.revision, self.clock.now());
        }
    }

    fn publish(&mut self, change: LoggedChange) {
        let (revision, chain) = (change.revision, change.chain);
        self.expel(&change.change);
        let entries = change.change.into_entries();
        let keys = entries.iter().map(wire::key_entry).collect();
        for entry in entries {
            self.image.put(entry);
        }
        (self.revision, self.chain) = (revision, chain);
        self.sessions.forget_lapsed(self.clock.now());
        self.sessions.appended(revision);
        let delta = Delta { revision: revision.0, chain: chain.to_vec(), keys };
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.send(id, message(Message::Delta(delta.clone())));
        }
        self.recent.push_back(delta);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Ends the sessions of validators that lose their right by a change, before the change is handed out: so they never
    /// acknowledge it, and its fence waits until their leases have run out.
    fn expel(&mut self, change: &Change) {
        let loses = |stream: &StreamTo| stream.principal.as_ref().is_some_and(|who| who.loses_by(change));
        let lost: Vec<_> = self.streams.iter().filter(|(_, stream)| loses(stream)).map(|(id, _)| *id).collect();
        for id in lost {
            tracing::warn!(session = id.0, "a validator's right is revoked; its session ends");
            self.sessions.broke(id);
            self.streams.remove(&id);
        }
    }

    /// Queues a message. A session whose queue is full is over: it cannot be left with a gap.
    fn send(&mut self, id: SessionId, message: SyncResponse) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.queue.try_send(message).is_err() {
            tracing::warn!(session = id.0, "a validator does not keep up, or has gone; its session ends");
            self.sessions.broke(id);
            self.streams.remove(&id);
        }
    }

    /// The deltas after `revision`, if that is a place in this history and all of them are at hand.
    fn missed_since(&self, revision: Revision, chain: &[u8]) -> Option<Vec<Delta>> {
        if revision == self.revision {
            return (chain == self.chain).then(Vec::new);
        }
        let at = self.recent.iter().position(|d| d.revision == revision.0 && d.chain == chain)?;
        Some(self.recent.iter().skip(at + 1).cloned().collect())
    }
}

pub(super) const fn message(message: Message) -> SyncResponse {
    SyncResponse { message: Some(message) }
}
