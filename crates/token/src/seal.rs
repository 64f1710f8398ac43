//! Sealing: encrypts tokens at rest, so that RevealToken can return them later.
//!
//! ```text
//!   ┌──────────┬───────────────────────────┬─────────┐
//!   │ nonce 24 │ ciphertext (token length) │ tag 16  │
//!   └──────────┴───────────────────────────┴─────────┘
//!   associated data (not stored): key uid 16 ‖ sealing-key id 4, big endian
//! ```
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03); sizes are in bytes. The nonce is random; with 192 bits, a collision
//! is negligible. The associated data binds a sealed token to its row: it does not open in the row of another key or
//! with another sealing-key id.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::entropy::{self, EntropyError};
use crate::format::TokenFormat;
use crate::parse::ParseError;
use crate::token::Token;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// A key for sealing tokens, with the id that database rows refer to.
///
/// The key is wiped from memory on drop. `Debug` prints only the id.
pub struct SealingKey {
    id: u32,
    key: Zeroizing<[u8; 32]>,
}

impl SealingKey {
    /// Wraps an existing key, such as one from a keyring.
    pub fn new(id: u32, key: [u8; 32]) -> Self {
        Self { id, key: Zeroizing::new(key) }
    }

    /// Generates a new key: 256 bits from the operating system.
    ///
    /// # Errors
    /// [`EntropyError`] if the operating system provides no random bytes.
    pub fn generate(id: u32) -> Result<Self, EntropyError> {
        Ok(Self { id, key: entropy::key()? })
    }

    /// The id of this key, unique among the sealing keys of its keyring. Store it with each sealed token.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The secret key bytes, for the keyring file.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// Seals `token` for the row of the key with uid `key_uid` (the 16 bytes of its UUID).
    ///
    /// The result is 40 bytes longer than the token, and differs for each call.
    ///
    /// # Errors
    /// [`SealError::Entropy`] if there are no random bytes for the nonce. [`SealError::Cipher`] cannot occur at the
    /// size of a token.
    pub fn seal(&self, token: &Token, key_uid: &[u8; 16]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy::fill(&mut nonce)?;
        let payload = Payload { msg: token.expose().as_bytes(), aad: &self.associated_data(key_uid) };
        let ciphertext = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Cipher)?;
        Ok([nonce.as_slice(), &ciphertext].concat())
    }

    /// Opens a token that [`seal`](Self::seal) sealed with this key for the same `key_uid`.
    ///
    /// # Errors
    /// [`SealError::TooShort`], [`SealError::Refused`] or [`SealError::NotAToken`].
    pub fn open(&self, format: &TokenFormat, sealed: &[u8], key_uid: &[u8; 16]) -> Result<Token, SealError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::TooShort)?;
        if ciphertext.len() < TAG_BYTES {
            return Err(SealError::TooShort);
        }
        let payload = Payload { msg: ciphertext, aad: &self.associated_data(key_uid) };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Refused)?;
        let opened = Zeroizing::new(opened);
        let text = std::str::from_utf8(&opened).map_err(|_| SealError::NotAToken(ParseError::BadCharacter))?;
        Token::parse_owned(format, text.to_owned()).map_err(SealError::NotAToken)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }

    fn associated_data(&self, key_uid: &[u8; 16]) -> [u8; 20] {
        let mut data = [0; 20];
        let (uid, id) = data.split_at_mut(key_uid.len());
        uid.copy_from_slice(key_uid);
        id.copy_from_slice(&self.id.to_be_bytes());
        data
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a token could not be sealed or opened. No variant contains or prints any of the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The operating system provided no random bytes for a nonce.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The cipher refused to seal. It refuses only texts of 256 GiB or more, so this is a defect of Keyward.
    #[error("the cipher refused to seal the token")]
    Cipher,
    /// The sealed token is shorter than nonce and tag.
    ///
    /// Likely cause: the wrong column was read, or a restored backup is truncated.
    #[error("the sealed token is too short")]
    TooShort,
    /// The authentication tag does not match.
    ///
    /// Likely cause: the sealing-key id of the row refers to a key of another keyring, or the sealed token was modified
    /// or moved to another row.
    #[error("the sealed token does not open under this sealing key for this key")]
    Refused,
    /// The sealed bytes opened, but their content is not a token of this format.
    ///
    /// Likely cause: the deployment's prefix word was changed after the token was issued.
    #[error("the sealed token opened, but it is not a token of this deployment")]
    NotAToken(#[source] ParseError),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::format::TokenKind;
    use crate::testing::{self, counting, golden};

    const UID: [u8; 16] = [0x11; 16];

    fn token() -> Token {
        Token::parse_owned(&TokenFormat::default(), golden(TokenKind::Server)).unwrap()
    }

    fn open(key: &SealingKey, sealed: &[u8], uid: &[u8; 16]) -> Result<String, SealError> {
        key.open(&TokenFormat::default(), sealed, uid).map(|token| token.expose().to_owned())
    }

    #[test]
    fn a_sealed_token_opens_again() {
        let key = SealingKey::generate(1).unwrap();
        for kind in [TokenKind::Server, TokenKind::Client, TokenKind::Member] {
            let token = Token::generate(&TokenFormat::default(), kind).unwrap();
            let sealed = key.seal(&token, &UID).unwrap();
            assert_eq!(sealed.len(), NONCE_BYTES + token.expose().len() + TAG_BYTES);
            let opened = key.open(&TokenFormat::default(), &sealed, &UID).unwrap();
            assert_eq!(opened.expose(), token.expose());
            assert_eq!(opened.kind(), kind);
        }
    }

    /// Sealed by libsodium through PyNaCl: key 32, 33, …; nonce 64, 65, …; sealing-key id 7.
    #[test]
    fn a_token_sealed_by_another_implementation_opens() {
        let sealed = hex::decode(concat!(
            "404142434445464748494a4b4c4d4e4f5051525354555657",
            "515632991754ceeb4248d800dd22a066bd1081a49e5e480878cc8f60de6e9b41",
            "de7e17e4248ca63e699291c8588ffd7a81b7af58",
            "0d69968321d3bae0ccdb9950835ab263",
        ))
        .unwrap();
        let key = SealingKey::new(7, counting(32));
        assert_eq!(open(&key, &sealed, &UID).unwrap(), golden(TokenKind::Server));
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(SealingKey::generate(1).unwrap().expose(), SealingKey::generate(1).unwrap().expose());
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let key = SealingKey::new(1, counting(0));
        assert_ne!(key.seal(&token(), &UID).unwrap(), key.seal(&token(), &UID).unwrap());
    }

    #[test]
    fn another_uid_another_id_and_another_key_are_refused() {
        let sealed = SealingKey::new(1, counting(0)).seal(&token(), &UID).unwrap();
        for bit in 0..128 {
            let mut uid = UID;
            uid[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&SealingKey::new(1, counting(0)), &sealed, &uid), Err(SealError::Refused), "bit {bit}");
        }
        assert_eq!(open(&SealingKey::new(2, counting(0)), &sealed, &UID), Err(SealError::Refused));
        assert_eq!(open(&SealingKey::new(1, counting(1)), &sealed, &UID), Err(SealError::Refused));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let key = SealingKey::new(1, counting(0));
        let sealed = key.seal(&token(), &UID).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &changed, &UID), Err(SealError::Refused), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let key = SealingKey::new(1, counting(0));
        let mut sealed = key.seal(&token(), &UID).unwrap();
        for length in 0..sealed.len() {
            let error = if length < NONCE_BYTES + TAG_BYTES { SealError::TooShort } else { SealError::Refused };
            assert_eq!(open(&key, &sealed[..length], &UID), Err(error), "{length} bytes");
        }
        sealed.push(0);
        assert_eq!(open(&key, &sealed, &UID), Err(SealError::Refused));
    }

    #[test]
    fn sealed_content_that_is_not_a_token_is_refused() {
        let key = SealingKey::new(1, counting(0));
        let sealed = key.seal(&token(), &UID).unwrap();
        let acme = TokenFormat::new("acme").unwrap();
        let error = key.open(&acme, &sealed, &UID).unwrap_err();
        assert_eq!(error, SealError::NotAToken(ParseError::WrongPrefix));

        let payload = Payload { msg: &[0xff, 0xfe], aad: &key.associated_data(&UID) };
        let ciphertext = key.cipher().encrypt(&XNonce::from([0; NONCE_BYTES]), payload).unwrap();
        let sealed = [&[0; NONCE_BYTES], ciphertext.as_slice()].concat();
        assert_eq!(open(&key, &sealed, &UID), Err(SealError::NotAToken(ParseError::BadCharacter)));
    }

    #[test]
    fn debug_and_errors_show_no_secret() {
        let key = SealingKey::generate(3).unwrap();
        let sealed = key.seal(&token(), &UID).unwrap();
        assert_eq!(format!("{key:?}"), "SealingKey { id: 3, .. }");
        let refused = open(&key, &sealed, &[0; 16]).unwrap_err();
        let foreign = key.open(&TokenFormat::new("acme").unwrap(), &sealed, &UID).unwrap_err();
        let shown = format!("{key:?} {key:#?} {refused:?} {refused} {foreign:?} {foreign}");
        testing::assert_hides(&shown, &testing::spellings(key.expose()).each_ref().map(|s| &**s));
        testing::assert_hides(&shown, &[&golden(TokenKind::Server)]);
    }
}
