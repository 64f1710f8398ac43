use keyward_domain::{Epoch, Error, Permission};

use crate::app::{App, Caller, Receipt, visible};

impl App {
    /// Takes the database as it is after a fork: nothing is refused any more for what a former history said. Returns how
    /// many tokens that frees.
    pub(crate) async fn accept_epoch(&self, caller: &Caller, epoch: Epoch) -> Result<(Receipt, u64), Error> {
        visible::on_platform(caller, Permission::EpochAccept)?;
        let accepted = self.store.accept_epoch(&caller.to(Permission::EpochAccept, None), epoch).await?;
        let (revision, released) = (accepted.revision, accepted.released);
        tracing::warn!(%revision, %epoch, released, actor = %caller.id, "the database's history is accepted");
        Ok((self.push(revision).await, released))
    }
}
