use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward_domain::{Expectation, Revision};
use keyward_replica::{AnyClock, Replica, ReplicaWriter};
use keyward_sync::Subscriber;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::address::{Admins, ConfigError};
use crate::validation::{Unavailable, Validation};

/// A replica in this process, fed in the background.
pub(crate) struct Embedded {
    replica: Arc<Replica<AnyClock>>,
    left: AtomicBool,
    /// Stops the subscriber, also when it is dropped.
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    subscriber: Mutex<Option<JoinHandle<()>>>,
}

/// Not derived, because the replica would print all keys.
impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("revision", &self.replica.revision()).finish_non_exhaustive()
    }
}

impl Embedded {
    pub(crate) fn start(admins: &Admins) -> Result<Self, ConfigError> {
        let upstream = admins.upstream()?;
        let replica = Arc::new(Replica::new(AnyClock::Boot));
        let writer = ReplicaWriter::new(Arc::clone(&replica));
        let stop = CancellationToken::new();
        // A separate task: requests must not wait while a snapshot is applied.
        let subscriber = tokio::spawn(Subscriber::new(upstream, writer, admins.validator_id()).run(stop.clone()));
        Ok(Self {
            replica,
            left: AtomicBool::new(false),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            subscriber: Mutex::new(Some(subscriber)),
        })
    }

    pub(crate) fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        if self.left.load(Ordering::Relaxed) {
            return Err(Unavailable::NoLease);
        }
        Ok(self.replica.judge(token, expectation, Revision(0))?.into())
    }

    pub(crate) async fn leave(&self) {
        // First of all: without a session no Goodbye is sent, and the lease may still be valid.
        self.left.store(true, Ordering::Relaxed);
        self.stop.cancel();
        // The lock makes concurrent calls wait too. The handle stays in place until the task has ended, so that a cancelled
        // call can be repeated.
        let mut subscriber = self.subscriber.lock().await;
        if let Some(running) = subscriber.as_mut() {
            // Fails only if the task panicked or the runtime ends; there is nothing left to do then.
            let _ = running.await;
            *subscriber = None;
        }
    }
}
