use keyward_domain::{Change, Epoch, Error, Revision};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};

use crate::connect::Store;
use crate::entity::{history_fork, withheld_token};
use crate::error::TxError;
use crate::write::{Call, retry};

/// An epoch that is accepted.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedEpoch {
    /// The revision that did it; when it was done before: one that is not older.
    pub revision: Revision,
    /// How many tokens are not withheld any more.
    pub released: u64,
}

impl Store {
    /// Takes the database as it is: nothing is refused any more for what a former history said. An epoch that is accepted
    /// already, or that is not the end of a fork, stays as it is.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `EPOCH_MISMATCH`, `STORE_UNAVAILABLE`.
    pub async fn accept_epoch(&self, call: &Call, epoch: Epoch) -> Result<AcceptedEpoch, Error> {
        retry!(self.accept_epoch_once(call, epoch))
    }

    async fn accept_epoch_once(&self, call: &Call, epoch: Epoch) -> Result<AcceptedEpoch, TxError> {
        let write = self.begin(call).await?;
        let place = write.take_place().await?;
        let current = place.epoch;
        if epoch != current {
            return Err(Error::epoch_mismatch(&current).into());
        }
        let fork = history_fork::Entity::find_by_id(place.epoch).one(&write.tx).await?;
        let Some(fork) = fork.filter(|fork| fork.accept_time.is_none()) else {
            return Ok(AcceptedEpoch { revision: place.newest(), released: 0 });
        };
        let mut fork: history_fork::ActiveModel = fork.into();
        fork.accept_time = Set(Some(place.time.as_micros()));
        fork.update(&write.tx).await?;
        let released = withheld_token::Entity::delete_many().exec(&write.tx).await?.rows_affected;
        let accepted = AcceptedEpoch { revision: place.revision, released };
        write.commit(place, &Change::EpochAccepted { epoch }, None).await?;
        Ok(accepted)
    }
}
