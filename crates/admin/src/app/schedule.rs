use std::time::Duration;

use crate::app::App;

/// How often to look for deactivations whose time has come.
const LOOK: Duration = Duration::from_secs(1);

/// How many at once.
const BATCH: u64 = 100;

impl App {
    /// Deactivates keys when their time has come, until the future is dropped. Every admin does: of several that try, one
    /// succeeds.
    pub async fn keep_schedules(&self) {
        loop {
            if let Err(error) = self.deactivate_due().await {
                tracing::warn!(%error, "cannot look for scheduled deactivations");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn deactivate_due(&self) -> Result<(), keyward_domain::Error> {
        for key in self.store.due_deactivations(BATCH).await? {
            if let Some(done) = self.store.deactivate_scheduled(&key).await? {
                tracing::info!(revision = %done.revision, key = %key.name, "key deactivated on schedule");
                // Nobody waits for the fence; validators hear of it all the same, and the key says when it is enforced.
                self.publisher.hint();
            }
        }
        Ok(())
    }
}
