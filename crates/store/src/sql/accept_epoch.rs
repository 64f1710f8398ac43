use keyward_domain::{Change, Epoch, Error, Revision};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};

use crate::entity::{history_fork, withheld_token};
use crate::error::TxError;
use crate::retry::retry;
use crate::store::Store;
use crate::write::Call;

/// The result of [`Store::accept_epoch`].
#[derive(Clone, Copy, Debug)]
pub struct AcceptedEpoch {
    /// The revision that accepted the epoch; if it was accepted before, a revision that is not older.
    pub revision: Revision,
    /// The number of tokens that are no longer withheld.
    pub released: u64,
}

impl Store {
    /// Accepts the current epoch after a fork of the history: tokens that only a lost history denied are valid again.
    /// Changes nothing if the epoch is accepted already, or is the first of the database.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `EPOCH_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn accept_epoch(&self, call: &Call, epoch: Epoch) -> Result<AcceptedEpoch, Error> {
        retry(|| self.accept_epoch_once(call, epoch)).await
    }

    async fn accept_epoch_once(&self, call: &Call, epoch: Epoch) -> Result<AcceptedEpoch, TxError> {
        let write = self.begin(call).await?;
        let next = write.next_entry().await?;
        let current = next.head.epoch;
        if epoch != current {
            return Err(Error::epoch_mismatch(&current).into());
        }
        let fork = history_fork::Entity::find_by_id(current).one(&write.tx).await?;
        let Some(fork) = fork.filter(|fork| fork.accept_time.is_none()) else {
            return Ok(AcceptedEpoch { revision: next.head.revision, released: 0 });
        };
        let mut fork: history_fork::ActiveModel = fork.into();
        fork.accept_time = Set(Some(next.time.as_micros()));
        fork.update(&write.tx).await?;
        let released = withheld_token::Entity::delete_many().exec(&write.tx).await?.rows_affected;
        let accepted = AcceptedEpoch { revision: next.revision, released };
        write.commit(next, &Change::EpochAccepted { epoch }, None).await?;
        Ok(accepted)
    }
}
