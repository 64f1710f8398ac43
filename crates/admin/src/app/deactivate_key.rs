use std::time::{Duration, Instant};

use keyward_domain::{Error, Key, KeyName};

use crate::app::fence::remaining;
use crate::app::{App, Receipt};
use crate::auth::Authorized;

impl App {
    /// Deactivates a key. When this returns OK, no validator accepts its token. That includes a key that was deactivated
    /// before, because the call may be a retry whose first answer was lost.
    ///
    /// `timeout` is the caller's deadline, counted from the start of the call.
    pub(crate) async fn deactivate_key(
        &self,
        by: &Authorized<KeyName>,
        etag: &str,
        timeout: Option<Duration>,
    ) -> Result<(Key, Receipt), Error> {
        let (begun, name) = (Instant::now(), &by.target);
        let deactivated = self.store.deactivate_key(&by.call(None), name, etag).await?;
        tracing::info!(revision = %deactivated.revision, key = %name, actor = %by.actor(), "key deactivated");
        let receipt = self.fence(deactivated.revision, remaining(timeout, begun.elapsed())).await?;
        Ok((deactivated.key, receipt))
    }
}
