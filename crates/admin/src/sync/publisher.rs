use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_domain::{Error, LoggedChange, Revision, Timestamp};
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{Delta, Grant, SyncResponse};
use keyward_replica::{BootClock, Clock, Instant, Policy, SessionId, Sessions};
use keyward_runtime::wire;
use keyward_store::{Head, Store};
use tokio::sync::{Notify, mpsc, watch};

use crate::metrics::Metrics;
use crate::sync::image::{Chunk, Image};
use crate::sync::policy::{Agreed, agree, expect_external_leases};

/// Changes read from the log at once.
const PAGE: u64 = 512;

/// Deltas kept for validators that come back: those that missed more take a snapshot.
const RECENT: usize = 4_096;

/// Messages that may wait for one session. A validator that falls further behind is cut off and comes back.
const QUEUE: usize = 8_192;

/// How long to wait at most before looking at the log without a hint.
const POLL: Duration = Duration::from_secs(1);

/// Follows the change log and hands every change to every session, in order.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    metrics: Metrics,
    epoch: String,
    /// What a fence may have to wait at most, for leases of this life and of former ones.
    longest_wait: Duration,
    hint: Notify,
    state: Mutex<State>,
    /// Ticks whenever a fence may have moved.
    moved: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    image: Image,
    revision: Revision,
    chain: [u8; 32],
    recent: VecDeque<Delta>,
    sessions: Sessions,
    queues: HashMap<SessionId, mpsc::Sender<SyncResponse>>,
    next_session: u64,
    /// The database's clock, and ours when we read it.
    wall: (Timestamp, Instant),
}

/// How a wait for the validators ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FenceOutcome {
    /// Sessions that acknowledged.
    pub(crate) acked: usize,
    /// Sessions whose leases ran out instead.
    pub(crate) lapsed: usize,
    /// Sessions that may still answer from before; 0: the revision is enforced.
    pub(crate) missing: usize,
}

/// A session that has begun.
pub(super) struct Joined {
    pub(super) id: SessionId,
    /// What the validator lacks, if it must take a snapshot; else the queue begins with the deltas that it lacks.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) queue: mpsc::Receiver<SyncResponse>,
}

/// All keys as of one revision.
pub(super) struct Snapshot {
    pub(super) chunks: Vec<Chunk>,
    pub(super) revision: Revision,
    pub(super) chain: [u8; 32],
}

impl Publisher {
    /// Loads the image. `lease`: a D to agree on from now on, if it is to change.
    pub(crate) async fn load(store: Store, metrics: Metrics, lease: Option<Duration>) -> Result<Self, Error> {
        let Agreed { policy, former_lives } = agree(&store, lease).await?;
        let mut image = Image::default();
        let Head { epoch, revision, chain } = store.load_image(|entry| image.put(entry)).await?;
        let asked_at = BootClock.now();
        let wall = (store.now().await?, asked_at);
        metrics.revision.set(revision.0);
        tracing::info!(%revision, keys = image.len(), lease_ms = policy.lease.as_millis(), "image loaded");
        let state = State {
            image,
            revision,
            chain,
            recent: VecDeque::new(),
            sessions: Sessions::new(policy, former_lives, BootClock.now()),
            queues: HashMap::new(),
            next_session: 0,
            wall,
        };
        let longest_wait = policy.wait_out().max(former_lives.map_or(Duration::ZERO, |former| former.wait_out()));
        let (hint, moved) = (Notify::new(), watch::Sender::new(()));
        Ok(Self { store, metrics, epoch: epoch.to_string(), longest_wait, hint, state: Mutex::new(state), moved })
    }

    /// Random id of the history that this publisher follows.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Says that the log has grown.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Follows the log until the future is dropped.
    pub(crate) async fn run(&self) {
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
            let changes = self.store.changes_after(after, PAGE).await?;
            if changes.is_empty() {
                break;
            }
            self.publish(changes);
        }
        // Our clock first: what the question takes makes the wall clock run ahead then, and never behind, so no key is
        // accepted after its expiry.
        let asked_at = BootClock.now();
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
        self.metrics.connected(&state.sessions);
        drop(state);
        self.moved.send_replace(());
    }

    /// What leases are counted by.
    pub(crate) fn policy(&self) -> Policy {
        *self.lock().sessions.policy()
    }

    /// What a fence may have to wait at most.
    pub(crate) const fn longest_wait(&self) -> Duration {
        self.longest_wait
    }

    /// Whether no validator answers from before `revision`, now.
    pub(crate) fn is_enforced(&self, revision: Revision) -> bool {
        let state = self.lock();
        state.revision >= revision && state.sessions.enforcement(revision, BootClock.now()).missing == 0
    }

    /// Waits until no validator answers from before `revision`, or for `limit`.
    pub(crate) async fn fence(&self, revision: Revision, limit: Duration) -> FenceOutcome {
        self.hint();
        let enforced = async {
            let mut moved = self.moved.subscribe();
            loop {
                moved.borrow_and_update();
                let (outcome, look_again) = self.look(revision);
                if outcome.missing == 0 {
                    return outcome;
                }
                tokio::select! {
                    _ = moved.changed() => {}
                    () = tokio::time::sleep(look_again) => {}
                }
            }
        };
        match tokio::time::timeout(limit, enforced).await {
            Ok(outcome) => outcome,
            Err(_) => self.look(revision).0,
        }
    }

    /// How far a revision is enforced, and when to look again if nothing moves before.
    fn look(&self, revision: Revision) -> (FenceOutcome, Duration) {
        let state = self.lock();
        if state.revision < revision {
            // Not even published: every session may answer from before, and if there is none now one may yet come.
            let missing = state.sessions.connected().max(1);
            return (FenceOutcome { acked: 0, lapsed: 0, missing }, POLL);
        }
        let now = BootClock.now();
        let sum = state.sessions.enforcement(revision, now);
        let outcome = FenceOutcome { acked: sum.acked, lapsed: sum.lapsed, missing: sum.missing };
        // A millisecond more: timers are not exact to the nanosecond.
        let wait = sum.look_again.map_or(POLL, |at| at.since(now)) + Duration::from_millis(1);
        (outcome, wait)
    }

    /// Notes that a validator of another process is about to get leases. Durable when it returns.
    pub(super) async fn expect_external_leases(&self) -> Result<(), Error> {
        expect_external_leases(&self.store).await
    }

    /// Begins a session for a validator that has `revision` of `epoch`, with that chain value.
    pub(super) fn join(&self, epoch: &str, revision: Revision, chain: &[u8]) -> Joined {
        let mut state = self.lock();
        let id = SessionId(state.next_session);
        state.next_session += 1;
        let (sender, queue) = mpsc::channel(QUEUE);
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
        state.queues.insert(id, sender);
        self.metrics.connected(&state.sessions);
        Joined { id, snapshot, queue }
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
        state.queues.remove(&id);
        state.sessions.forget_lapsed(BootClock.now());
        self.metrics.connected(&state.sessions);
        drop(state);
        self.moved.send_replace(());
    }

    /// A session has applied a revision.
    pub(super) fn ack(&self, id: SessionId, revision: Revision) {
        self.lock().sessions.ack(id, revision);
        self.moved.send_replace(());
    }

    /// Answers a renewal, behind every delta that was published before it.
    ///
    /// The basis is now: this process alone writes the database. A commit that is not published yet is no trouble, for
    /// its delta will find this lease on record, and its fence will wait for it.
    pub(super) fn renew(&self, id: SessionId, seq: u64, applied: Revision) {
        let mut state = self.lock();
        let now = BootClock.now();
        state.sessions.ack(id, applied);
        let Some(duration) = state.sessions.grant(id, now, now) else { return };
        let (wall, read_at) = state.wall;
        let grant = Grant {
            seq,
            duration: prost_types::Duration::try_from(duration).ok(),
            wall_time_micros: wall.plus(now.since(read_at)).as_micros(),
        };
        state.send(id, message(Message::Grant(grant)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in here would be a defect of its own; the data is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn publish(&mut self, change: LoggedChange) {
        let (revision, chain) = (change.revision, change.chain);
        let entries = change.change.into_entries();
        let keys = entries.iter().map(wire::key_entry).collect();
        for entry in entries {
            self.image.put(entry);
        }
        (self.revision, self.chain) = (revision, chain);
        self.sessions.forget_lapsed(BootClock.now());
        self.sessions.appended(revision);
        let delta = Delta { revision: revision.0, chain: chain.to_vec(), keys };
        for id in self.queues.keys().copied().collect::<Vec<_>>() {
            self.send(id, message(Message::Delta(delta.clone())));
        }
        self.recent.push_back(delta);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Queues a message. A session whose queue is full is over: it cannot be left with a gap.
    fn send(&mut self, id: SessionId, message: SyncResponse) {
        let Some(queue) = self.queues.get(&id) else { return };
        if queue.try_send(message).is_err() {
            tracing::warn!(session = id.0, "a validator does not keep up, or has gone; its session ends");
            self.sessions.broke(id);
            self.queues.remove(&id);
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
