use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward_domain::{Expectation, Revision};
use keyward_replica::{AnyClock, Replica, ReplicaWriter};
use keyward_sync::{StopTrigger, Subscriber};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::address::{Admins, ConfigError};
use crate::validation::{Unavailable, Validation};

/// A replica in this process, fed in the background.
pub(crate) struct Embedded {
    replica: Arc<Replica<AnyClock>>,
    left: AtomicBool,
    /// Tells the subscriber to stop, also when this is dropped.
    stop: StopTrigger,
    subscriber: Mutex<Option<JoinHandle<()>>>,
}

/// Not derived: the replica would print every key of every project.
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
        let (stop, stops) = StopTrigger::new();
        // In a task of its own: a snapshot is much work, and requests must not wait for it.
        let subscriber = tokio::spawn(Subscriber::new(upstream, writer, admins.validator_id()).run(stops));
        Ok(Self { replica, left: AtomicBool::new(false), stop, subscriber: Mutex::new(Some(subscriber)) })
    }

    pub(crate) fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        if self.left.load(Ordering::Relaxed) {
            return Err(Unavailable::NoLease);
        }
        Ok(self.replica.judge(token, expectation, Revision(0))?.into())
    }

    pub(crate) async fn leave(&self) {
        // At once, also where no session is left to say Goodbye to and a lease runs on.
        self.left.store(true, Ordering::Relaxed);
        self.stop.stop();
        // Whoever else leaves meanwhile waits as well, and one that was cancelled can be called again.
        let mut subscriber = self.subscriber.lock().await;
        if let Some(running) = subscriber.as_mut() {
            // It fails only if it panicked, or with the runtime: then there is nobody to say Goodbye.
            let _ = running.await;
            *subscriber = None;
        }
    }
}
