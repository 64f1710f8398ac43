use std::time::Duration;

use keyward_domain::{Error, Revision};

use crate::app::fence::within;
use crate::app::{App, Receipt};

impl App {
    /// Waits until no validator answers from before `revision`. Says nothing of what the revision did, so any member
    /// that may see keys at all may wait.
    pub(crate) async fn wait_enforced(&self, revision: Revision, patience: Option<Duration>) -> Result<Receipt, Error> {
        let newest = self.store.checked_head().await?.revision;
        if !(Revision(1)..=newest).contains(&revision) {
            return Err(Error::field("revision", format!("1 to {newest}, the newest there is")));
        }
        self.fence(revision, within(patience, Duration::ZERO)).await
    }
}
