use std::time::Duration;

use keyward_domain::Error;

use crate::app::App;

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often to query for deactivations that are due.
const POLL: Duration = Duration::from_secs(1);

/// The most deactivations of one query.
const BATCH: u64 = 100;

/// Bounds the wait for a connection that broke without an error. A retry is safe, because each deactivation is conditional.
async fn bounded<T>(query: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(ANSWER, query).await;
    answer.unwrap_or_else(|_| Err(Error::store_unavailable("no answer in time")))
}

impl App {
    /// Deactivates keys at their scheduled times, until the future is dropped. Every admin over the database does this; for each
    /// key one of them succeeds.
    pub(super) async fn keep_schedules(&self) {
        loop {
            // A full batch means that more may be due. A batch with a failure is not full, so this ends.
            while self.deactivate_due().await == BATCH {}
            tokio::time::sleep(POLL).await;
        }
    }

    /// Deactivates the keys that are due, and returns how many. A failure of one key does not stop the others.
    async fn deactivate_due(&self) -> u64 {
        let due = match bounded(self.store.due_deactivations(BATCH)).await {
            Ok(due) => due,
            Err(error) => {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(%error, detail, "cannot query scheduled deactivations");
                return 0;
            }
        };
        let mut count = 0;
        for key in due {
            match bounded(self.store.deactivate_scheduled(&key)).await {
                Ok(Some(done)) => {
                    tracing::info!(revision = %done.revision, key = %key.name, "key deactivated on schedule");
                    // No call waits for the fence. The key's field `enforcement` shows when it is enforced.
                    self.publisher.announce(done.revision);
                    count += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    let detail = error.internal_detail().unwrap_or_default();
                    tracing::error!(%error, detail, key = %key.name, "cannot deactivate a key on schedule; will retry");
                }
            }
        }
        count
    }
}
