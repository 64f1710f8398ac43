use keyward_domain::{Error, Revision, Timestamp, Uid};
use keyward_token::DigestKey;
use sea_orm::{ConnectionTrait, EntityTrait};
use uuid::Uuid;

use crate::connect::Store;
use crate::convert::to_chain;
use crate::entity::counter;
use crate::error::{TxError, corrupt, from_driver};
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
    /// What shows that an admin has named this place.
    fn proof(&self, key: &DigestKey) -> [u8; 32] {
        // Of another shape than what is hashed for an entry or for the counter's row, so it can be taken for neither.
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(b"a place in the log").update(self.epoch.as_bytes());
        hasher.update(&self.revision.0.to_be_bytes()).update(&self.chain);
        *hasher.finalize().as_bytes()
    }
}

impl Store {
    /// The chain value as validators are told it: 64 bytes, the second half of which shows that the place was not made up.
    pub fn prove(&self, place: &Head) -> Vec<u8> {
        [place.chain, place.proof(&self.chain_key)].concat()
    }

    /// A place as a validator has noted it from [`Self::prove`]; `None`: nobody has told it that.
    pub fn proven(&self, epoch: &str, revision: Revision, noted: &[u8]) -> Option<Head> {
        let (chain, proof) = noted.split_first_chunk::<32>()?;
        let place = Head { epoch: Uid::from_text(epoch)?.into(), revision, chain: *chain };
        // Compared in constant time, as hashes of this kind are.
        let proof = <[u8; 32]>::try_from(proof).ok().map(blake3::Hash::from_bytes)?;
        (blake3::Hash::from_bytes(place.proof(&self.chain_key)) == proof).then_some(place)
    }

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
            TxError::Conflict(error) => from_driver(&error),
        })
    }
}

pub(crate) async fn read_head(db: &impl ConnectionTrait) -> Result<Head, Error> {
    let row = counter::Entity::find_by_id(1).one(db).await.map_err(|e| from_driver(&e))?;
    let row = row.ok_or_else(|| corrupt("no revision counter"))?;
    Ok(Head { epoch: row.epoch, revision: Revision(row.revision), chain: to_chain(&row.chain)? })
}
