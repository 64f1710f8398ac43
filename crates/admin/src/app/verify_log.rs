use keyward_domain::{Error, Permission};
use keyward_store::{LogHead, Verification};

use crate::app::{App, Caller, visible};

impl App {
    /// Checks the log, and every row by it. One at a time: it reads everything.
    pub(crate) async fn verify_log(&self, caller: &Caller, known: Option<LogHead>) -> Result<Verification, Error> {
        visible::on_platform(caller, Permission::AuditVerify)?;
        // Whoever repeats a call that took too long must not make it take longer.
        let _alone = self.verifying.try_lock().map_err(|_| Error::store_busy("another check of the log is running"))?;
        let found = self.store.verify_log(known).await?;
        if found.finding_count == 0 {
            tracing::info!(revision = %found.head.revision, rows = found.rows, actor = %caller.id, "log verified");
        } else {
            tracing::error!(findings = found.finding_count, actor = %caller.id, "the log or the rows were tampered with");
        }
        Ok(found)
    }
}
