//! The connections of one listener: how many there may be, which one makes way for a new one, how long a connection may stay
//! without a request, and how much memory its calls may hold.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::budget::{Budget, BudgetMetrics, Shared};

/// Length of the preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// How long a client may take for its first bytes: the preface of HTTP/2, or as many bytes of the head of an HTTP/1.1 request.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// A connection that is this young makes way only if no other one can: its first request may be on the way.
const YOUNG: Duration = Duration::from_secs(1);

/// A connection whose requests have not moved for this long counts as idle.
const STALLED: Duration = Duration::from_secs(60);

/// How long a new connection waits until the one that makes way for it is closed.
const MAKE_WAY: Duration = Duration::from_secs(1);

/// How many connections a listener accepts, how long one may stay without a request, and how much memory their calls may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimits {
    /// The most connections at a time. At the limit, a new connection replaces an idle one, or is closed if there is none.
    pub most: usize,
    /// How long a connection may be open before its first request is complete.
    pub first_request: Duration,
    /// Bytes that the gRPC calls of all connections together may hold, beyond [`budget::ALLOWANCE`](crate::budget::ALLOWANCE) for
    /// each connection. One connection may hold an eighth of it.
    pub message_memory: usize,
}

impl ConnectionLimits {
    /// Default of [`ConnectionLimits::most`].
    pub const MOST: usize = 4_096;

    /// Default of [`ConnectionLimits::first_request`].
    pub const FIRST_REQUEST: Duration = Duration::from_secs(30);

    /// Default of [`ConnectionLimits::message_memory`] for all listeners of a process together: 128 MiB.
    pub const MESSAGE_MEMORY: usize = 128 << 20;

    /// Returns the same limits with `most` connections.
    #[must_use]
    pub const fn with_most(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { most: Self::MOST, first_request: Self::FIRST_REQUEST, message_memory: Self::MESSAGE_MEMORY }
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    slots: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
    budget: Arc<Shared>,
    labels: Labels,
}

/// What the listener, the requests and the socket of one connection share.
#[derive(Debug)]
pub struct ConnectionState {
    opened: Instant,
    budget: Budget,
    labels: Labels,
    closed: CancellationToken,
    had_request: AtomicBool,
    requests: AtomicUsize,
    /// When a request last began, moved or ended, in milliseconds since `opened`.
    active: AtomicU64,
}

/// A request in progress. Until it is dropped, its connection counts as in use.
#[derive(Debug)]
pub struct RequestInProgress(Arc<ConnectionState>);

/// The right of one connection to be open, and its deadlines. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot {
    id: u64,
    connections: Arc<Connections>,
    state: Arc<ConnectionState>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// `None` once the first request has arrived.
    deadline: Option<Pin<Box<Sleep>>>,
    received: usize,
    _slot: OwnedSemaphorePermit,
}

/// How readily a connection makes way, smallest first, and since when.
type Rank = (u8, Instant);

// === impl Connections ===

impl Connections {
    /// `label` names the listener in metrics.
    pub(crate) fn new(label: &'static str, limits: ConnectionLimits) -> Arc<Self> {
        let labels = Labels { listener: label };
        Arc::new(Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.most)),
            open: Mutex::default(),
            next: AtomicU64::default(),
            budget: Shared::new(limits.message_memory, METRICS.budget(labels)),
            labels,
        })
    }

    /// Returns a slot for a connection that was accepted. Closes an idle connection if there is no slot. Returns `None` if none
    /// is idle, or the idle one does not close in time.
    pub(crate) async fn admit(self: &Arc<Self>) -> Option<Slot> {
        let slot = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) if self.close_one() => {
                tokio::time::timeout(MAKE_WAY, Arc::clone(&self.slots).acquire_owned()).await.ok().and_then(Result::ok)
            }
            Err(_) => None,
        };
        let Some(slot) = slot else {
            METRICS.closed.get_or_create(&self.labels.because("refused")).inc();
            return None;
        };
        let state = Arc::new(ConnectionState {
            opened: Instant::now(),
            budget: Budget::of(&self.budget),
            labels: self.labels,
            closed: CancellationToken::new(),
            had_request: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            active: AtomicU64::new(0),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.locked().insert(id, Arc::clone(&state));
        METRICS.open.get_or_create(&self.labels).inc();
        Some(Slot {
            id,
            connections: Arc::clone(self),
            closed: Box::pin(state.closed.clone().cancelled_owned()),
            deadline: Some(Box::pin(tokio::time::sleep(FIRST_BYTES.min(self.limits.first_request)))),
            received: 0,
            state,
            _slot: slot,
        })
    }

    /// Closes the connection that makes way most readily. Returns `false` if every connection is in use.
    fn close_one(&self) -> bool {
        let idle = {
            let open = self.locked();
            // A client that opens connections faster than requests arrive must not drive out those in use by others.
            let silent = open.values().filter(|state| !state.had_request.load(Ordering::Relaxed)).count();
            let spares_young = silent <= (self.limits.most / 8).max(8);
            let rank = |state: &Arc<ConnectionState>| state.rank(Instant::now(), spares_young);
            open.values().filter_map(|state| Some((rank(state)?, Arc::clone(state)))).min_by_key(|x| x.0)
        };
        let Some((_, state)) = idle else { return false };
        METRICS.closed.get_or_create(&self.labels.because("replaced")).inc();
        state.closed.cancel();
        true
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ConnectionState ===

impl ConnectionState {
    /// Counts a request whose head is complete.
    pub fn begin(self: &Arc<Self>) -> RequestInProgress {
        self.had_request.store(true, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.moved();
        RequestInProgress(Arc::clone(self))
    }

    /// What the calls of this connection hold in memory.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Closes the connection, because its client does not read an answer.
    pub(crate) fn close_unread(&self) {
        METRICS.closed.get_or_create(&self.labels.because("unread")).inc();
        self.closed.cancel();
    }

    fn moved(&self) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(millis, Ordering::Relaxed);
    }

    /// Returns `None` for a connection that is in use or closed. `spares_young`: a connection without a request makes way last while
    /// it is [`YOUNG`].
    fn rank(&self, now: Instant, spares_young: bool) -> Option<Rank> {
        let active = self.opened + Duration::from_millis(self.active.load(Ordering::Relaxed));
        if self.closed.is_cancelled() {
            None
        } else if !self.had_request.load(Ordering::Relaxed) {
            let is_spared = spares_young && now.duration_since(self.opened) < YOUNG;
            Some((if is_spared { 3 } else { 0 }, self.opened))
        } else if self.requests.load(Ordering::Relaxed) == 0 {
            Some((1, active))
        } else if now.duration_since(active) >= STALLED {
            Some((2, active))
        } else {
            None
        }
    }
}

impl RequestInProgress {
    /// The connection of the request.
    pub(crate) const fn connection(&self) -> &Arc<ConnectionState> {
        &self.0
    }

    /// Records that a part of the request or of its response was transferred.
    pub fn moved(&self) {
        self.0.moved();
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.moved();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Slot ===

impl Slot {
    pub(crate) const fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Counts bytes that the client has sent.
    pub(crate) const fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Returns an error once the listener has closed the connection to make way for another.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            Poll::Pending => Ok(()),
        }
    }

    /// Returns an error once the connection is closed, or has been without a request for too long.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.poll_closed(cx)?;
        if self.state.had_request.load(Ordering::Relaxed) {
            self.deadline = None;
        }
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        let last = self.state.opened + self.connections.limits.first_request;
        while deadline.as_mut().poll(cx).is_ready() {
            if self.received < PREFACE || deadline.deadline() >= last {
                METRICS.closed.get_or_create(&self.connections.labels.because("no_request")).inc();
                self.deadline = None;
                self.state.closed.cancel();
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            deadline.as_mut().reset(last);
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.locked().remove(&self.id);
        METRICS.open.get_or_create(&self.connections.labels).dec();
    }
}

// === metrics ===

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

#[derive(Debug, Default)]
struct Metrics {
    open: Family<Labels, Gauge>,
    closed: Family<Closed, Counter>,
    message_bytes: Family<Labels, Gauge>,
    refused: Family<Closed, Counter>,
}

impl Metrics {
    fn budget(&self, labels: Labels) -> BudgetMetrics {
        BudgetMetrics {
            held: self.message_bytes.get_or_create_owned(&labels),
            refused_by_connection: self.refused.get_or_create_owned(&labels.because("connection")),
            refused_by_listener: self.refused.get_or_create_owned(&labels.because("listener")),
        }
    }
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    listener: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Closed {
    listener: &'static str,
    cause: &'static str,
}

impl Labels {
    const fn because(self, cause: &'static str) -> Closed {
        Closed { listener: self.listener, cause }
    }
}

/// Registers the metrics of connections, and of the memory that their calls hold, for all listeners of this process.
pub fn register(registry: &mut Registry) {
    registry.register("connections", "Open connections", METRICS.open.clone());
    let help = "Connections that the listener closed: without a request, replaced by a new one, refused at the limit, or unread answers";
    registry.register("connections_closed", help, METRICS.closed.clone());
    let help = "Bytes that gRPC calls hold of the memory that the connections of the listener share";
    registry.register("message_bytes", help, METRICS.message_bytes.clone());
    let help =
        "gRPC calls refused with OVERLOADED, because the connection or the listener held as much memory as it may";
    registry.register("calls_refused", help, METRICS.refused.clone());
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn connections(most: usize) -> Arc<Connections> {
        Connections::new("test", ConnectionLimits::default().with_most(most))
    }

    async fn is_closed(slot: &mut Slot) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(slot.poll_end(cx))).await.is_err()
    }

    #[tokio::test]
    async fn at_the_limit_the_connection_that_never_had_a_request_makes_way_first() {
        let connections = connections(3);
        let (mut busy, mut idle) = (connections.admit().await.unwrap(), connections.admit().await.unwrap());
        let mut silent = connections.admit().await.unwrap();
        let request = busy.state().begin();
        drop(idle.state().begin());
        assert!(silent.state().rank(Instant::now() + YOUNG, true) < idle.state().rank(Instant::now() + YOUNG, true));
        assert!(
            silent.state().rank(Instant::now(), true) > idle.state().rank(Instant::now(), true),
            "a young connection is spared"
        );
        assert!(
            silent.state().rank(Instant::now(), false) < idle.state().rank(Instant::now(), false),
            "it is not spared if there are many"
        );
        let (admitted, ()) = tokio::join!(connections.admit(), async {
            assert!(is_closed(&mut idle).await);
            drop(idle);
        });
        let _fourth = admitted.unwrap().state().begin();
        assert!(!is_closed(&mut busy).await && !is_closed(&mut silent).await);
        drop(silent);
        let last = connections.admit().await.unwrap();
        let _in_use = last.state().begin();
        let other = connections.admit().await;
        assert!(other.is_some(), "the fourth was dropped with its slot");
        let _in_use_too = other.as_ref().unwrap().state().begin();
        assert!(connections.admit().await.is_none(), "every connection is in use");
        drop(request);
    }

    #[tokio::test]
    async fn a_request_that_does_not_move_for_a_minute_does_not_keep_its_connection() {
        let connections = connections(1);
        let slot = connections.admit().await.unwrap();
        let _request = slot.state().begin();
        assert_eq!(slot.state().rank(Instant::now(), true), None);
        assert!(slot.state().rank(Instant::now() + STALLED + YOUNG, true).is_some());
    }
}
