use keyward_domain::{Epoch, Error, Position, Revision, Timestamp};
use keyward_token::DigestKey;
use sea_orm::{ConnectionTrait, EntityTrait};

use crate::connect::Store;
use crate::convert::to_chain;
use crate::entity::counter;
use crate::error::{TxError, corrupt, from_driver};
use crate::write::now;

/// MAC over a position, which proves that an admin with this keyring has named it.
fn proof(position: &Position, key: &DigestKey) -> [u8; 32] {
    // The input differs in shape from what is hashed for an entry or for the counter's row, so it can be taken for neither.
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(b"a place in the log").update(position.epoch.as_bytes());
    hasher.update(&position.revision.0.to_be_bytes()).update(&position.chain);
    *hasher.finalize().as_bytes()
}

impl Store {
    /// The chain value as validators are told it: 64 bytes, the second half of which shows that the place was not made up.
    pub fn sign_position(&self, place: &Position) -> Vec<u8> {
        [place.chain, proof(place, &self.chain_key)].concat()
    }

    /// A place as a validator has noted it from [`Self::sign_position`]; `None`: nobody has told it that.
    pub fn verify_position(&self, epoch: &str, revision: Revision, noted: &[u8]) -> Option<Position> {
        let (chain, noted_proof) = noted.split_first_chunk::<32>()?;
        let place = Position { epoch: Epoch::from_text(epoch)?, revision, chain: *chain };
        // Compared in constant time, as hashes of this kind are.
        let noted_proof = <[u8; 32]>::try_from(noted_proof).ok().map(blake3::Hash::from_bytes)?;
        (blake3::Hash::from_bytes(proof(&place, &self.chain_key)) == noted_proof).then_some(place)
    }

    /// The end of the log, as committed now.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn head(&self) -> Result<Position, Error> {
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

pub(crate) async fn read_head(db: &impl ConnectionTrait) -> Result<Position, Error> {
    let row = counter::Entity::find_by_id(1).one(db).await.map_err(|e| from_driver(&e))?;
    let row = row.ok_or_else(|| corrupt("no revision counter"))?;
    Ok(Position { epoch: row.epoch.into(), revision: Revision(row.revision), chain: to_chain(&row.chain)? })
}
