use std::time::Duration;

use keyward_domain::{Error, Revision};

use crate::app::fence::remaining;
use crate::app::{App, Receipt};

impl App {
    /// Waits until no validator answers from before `revision`. It reveals nothing of the revision's change, so every member
    /// that may see any key may call it.
    pub(crate) async fn wait_enforced(&self, revision: Revision, timeout: Option<Duration>) -> Result<Receipt, Error> {
        let newest = self.store.checked_head().await?.revision;
        if !(Revision(1)..=newest).contains(&revision) {
            return Err(Error::field("revision", format!("1 to {newest}, the newest there is")));
        }
        self.fence(revision, remaining(timeout, Duration::ZERO)).await
    }
}
