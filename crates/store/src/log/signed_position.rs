//! Positions that validators keep and bring back when they reconnect.

use keyward_domain::{Epoch, Position, Revision};
use keyward_token::DigestKey;

use crate::store::Store;

impl Store {
    /// The chain value of `position` followed by a MAC over the position: 64 bytes. The MAC proves to any admin with this
    /// keyring that an admin, and not the validator, named the position.
    pub fn sign_position(&self, position: &Position) -> Vec<u8> {
        [position.chain, mac(position, &self.chain_key)].concat()
    }

    /// The position that a validator brings back: the epoch as text, the revision, and the bytes from
    /// [`Self::sign_position`]. Returns `None` if the MAC does not match.
    pub fn verify_position(&self, epoch: &str, revision: Revision, signed: &[u8]) -> Option<Position> {
        let (chain, found) = signed.split_first_chunk::<32>()?;
        let position = Position { epoch: Epoch::from_text(epoch)?, revision, chain: *chain };
        // blake3::Hash compares in constant time.
        let found = <[u8; 32]>::try_from(found).ok().map(blake3::Hash::from_bytes)?;
        (blake3::Hash::from_bytes(mac(&position, &self.chain_key)) == found).then_some(position)
    }
}

fn mac(position: &Position, key: &DigestKey) -> [u8; 32] {
    // The prefix keeps this input apart from the inputs of chain values and of the head's MAC, which use the same key.
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(b"a place in the log").update(position.epoch.as_bytes());
    hasher.update(&position.revision.0.to_be_bytes()).update(&position.chain);
    *hasher.finalize().as_bytes()
}
