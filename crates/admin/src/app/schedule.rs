use std::time::Duration;

use keyward_domain::Error;

use crate::app::App;

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often to look for deactivations whose time has come.
const LOOK: Duration = Duration::from_secs(1);

/// How many at once.
const BATCH: u64 = 100;

/// A connection that was cut in silence must not be waited on for ever. Trying again is safe: each change is conditional.
async fn answered<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(ANSWER, question).await;
    answer.unwrap_or_else(|_| Err(Error::store_unavailable("no answer in time")))
}

impl App {
    /// Deactivates keys when their time has come, until the future is dropped. Every admin does: of several that try, one
    /// succeeds.
    pub(super) async fn keep_schedules(&self) {
        loop {
            // While there are more than one look finds, and it gets anywhere.
            while self.deactivate_due().await == BATCH {}
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns how many it has deactivated. One that fails keeps no other from its end.
    async fn deactivate_due(&self) -> u64 {
        let due = match answered(self.store.due_deactivations(BATCH)).await {
            Ok(due) => due,
            Err(error) => {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(%error, detail, "cannot look for scheduled deactivations");
                return 0;
            }
        };
        let mut count = 0;
        for key in due {
            match answered(self.store.deactivate_scheduled(&key)).await {
                Ok(Some(done)) => {
                    tracing::info!(revision = %done.revision, key = %key.name, "key deactivated on schedule");
                    // Nobody waits for the fence; validators hear of it all the same, and the key says when it is enforced.
                    self.publisher.announce(done.revision);
                    count += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    let detail = error.internal_detail().unwrap_or_default();
                    tracing::error!(%error, detail, key = %key.name, "cannot deactivate on schedule; trying on");
                }
            }
        }
        count
    }
}
