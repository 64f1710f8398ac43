use keyward_domain::{Error, Revision, Timestamp, Uid};
use sea_orm::{ConnectionTrait, EntityTrait};
use uuid::Uuid;

use crate::connect::Store;
use crate::convert::to_chain;
use crate::entity::counter;
use crate::error::{TxError, corrupt, unavailable};
use crate::write::now;

/// The end of the change log, or a place in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Random id of this history.
    pub epoch: Uuid,
    /// The newest revision.
    pub revision: Revision,
    /// The chain's value at it.
    pub chain: [u8; 32],
}

impl Head {
    /// A place as others have noted it; `None`: it can be none.
    pub fn noted(epoch: &str, revision: Revision, chain: &[u8]) -> Option<Self> {
        let (epoch, chain) = (Uid::from_text(epoch)?, <[u8; 32]>::try_from(chain).ok()?);
        Some(Self { epoch: epoch.into(), revision, chain })
    }
}

impl Store {
    /// The end of the log, as committed now.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn head(&self) -> Result<Head, Error> {
        read_head(&self.reader()).await
    }

    /// The database's wall clock.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        now(&self.reader()).await.map_err(|error| match error {
            TxError::Answer(error) => error,
            TxError::Conflict(error) => unavailable(&error),
        })
    }
}

pub(crate) async fn read_head(db: &impl ConnectionTrait) -> Result<Head, Error> {
    let row = counter::Entity::find_by_id(1).one(db).await.map_err(|e| unavailable(&e))?;
    let row = row.ok_or_else(|| corrupt("no revision counter"))?;
    Ok(Head { epoch: row.epoch, revision: Revision(row.revision), chain: to_chain(&row.chain)? })
}
