use std::sync::{Arc, Mutex, PoisonError};

use keyward_domain::{Expectation, Revision};
use keyward_replica::{AnyClock, Follower, Replica};
use keyward_sync::{StopTrigger, Subscriber};
use tokio::task::JoinHandle;

use crate::address::{Admins, ConfigError};
use crate::validation::{Unavailable, Validation};

/// A replica in this process, fed in the background.
#[derive(Debug)]
pub(crate) struct Embedded {
    replica: Arc<Replica<AnyClock>>,
    /// Tells the subscriber to stop, also when this is dropped.
    stop: StopTrigger,
    subscriber: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    pub(crate) fn start(admins: &Admins) -> Result<Self, ConfigError> {
        let upstream = admins.upstream()?;
        let replica = Arc::new(Replica::new(AnyClock::Boot));
        let follower = Follower::new(Arc::clone(&replica));
        let (stop, stops) = StopTrigger::new();
        // In a task of its own: a snapshot is much work, and requests must not wait for it.
        let subscriber = tokio::spawn(Subscriber::new(upstream, follower, admins.validator_id()).run(stops));
        Ok(Self { replica, stop, subscriber: Mutex::new(Some(subscriber)) })
    }

    pub(crate) fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        Ok(self.replica.judge(token, expectation, Revision(0))?.into())
    }

    pub(crate) async fn leave(&self) {
        self.stop.stop();
        let subscriber = self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(subscriber) = subscriber {
            // It fails only if it panicked, or with the runtime: then there is nobody to say Goodbye.
            let _ = subscriber.await;
        }
    }
}
