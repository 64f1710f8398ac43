use keyward_domain::{Error, Member, Permission};
use keyward_store::{LogHead, Verification};

use crate::app::{App, visible};

impl App {
    /// Checks the log, and every row by it. One at a time: it reads everything.
    pub(crate) async fn verify_log(&self, caller: &Member, known: Option<LogHead>) -> Result<Verification, Error> {
        visible::on_platform(caller, Permission::AuditVerify)?;
        let _alone = self.verifying.lock().await;
        let found = self.store.verify_log(known).await?;
        if found.finding_count == 0 {
            tracing::info!(revision = %found.head.revision, rows = found.rows, actor = %caller.id, "log verified");
        } else {
            tracing::error!(findings = found.finding_count, actor = %caller.id, "the log or the rows were tampered with");
        }
        Ok(found)
    }
}
