use keyward_domain::Error;
use keyward_store::{LogHead, Verification};

use crate::app::App;
use crate::auth::Authorized;

impl App {
    /// Verifies the hash chain of the change log, replays it, and compares the result with every row. One call at a time: it
    /// reads the whole database.
    pub(crate) async fn verify_log(&self, by: &Authorized, known: Option<LogHead>) -> Result<Verification, Error> {
        // Refused at once rather than queued: retries after a timeout must not add up.
        let _alone = self.verifying.try_lock().map_err(|_| Error::store_busy("another check of the log is running"))?;
        let found = self.store.verify_log(known).await?;
        if found.finding_count == 0 {
            tracing::info!(revision = %found.head.revision, rows = found.rows, actor = %by.actor(), "log verified");
        } else {
            tracing::error!(findings = found.finding_count, actor = %by.actor(), "the log or the rows were tampered with");
        }
        Ok(found)
    }
}
