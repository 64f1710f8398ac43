use keyward_domain::{Epoch, Error};

use crate::app::{App, Receipt};
use crate::auth::Authorized;

impl App {
    /// Accepts the database's epoch after a fork: withheld tokens are no longer denied. Returns how many tokens that
    /// releases.
    pub(crate) async fn accept_epoch(&self, by: &Authorized, epoch: Epoch) -> Result<(Receipt, u64), Error> {
        let accepted = self.store.accept_epoch(&by.call(None), epoch).await?;
        let (revision, released) = (accepted.revision, accepted.released);
        tracing::warn!(%revision, %epoch, released, actor = %by.actor(), "epoch accepted");
        Ok((self.push(revision).await, released))
    }
}
