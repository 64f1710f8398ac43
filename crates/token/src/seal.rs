//! Tokens at rest, for platforms that can show a token again.
//!
//! ```text
//!   ┌──────────┬─────────────────────────┬─────────┐
//!   │ nonce 24 │ ciphertext, as the token │ tag 16  │
//!   └──────────┴─────────────────────────┴─────────┘
//!   associated data (not stored): key uid 16 ‖ sealing-key id 4, big endian
//! ```
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). The nonce is random: at 192 bits two alike are out of the question.
//! The associated data ties the bytes to their row: moved to another key's row, or read under another sealing key's
//! id, they do not open.

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

/// A key that tokens are sealed under, and the number that rows know it by.
///
/// Wiped from memory when dropped; `Debug` prints the id alone.
pub struct SealingKey {
    id: u32,
    key: Zeroizing<[u8; 32]>,
}

impl SealingKey {
    /// Takes a key that was made before, as from a keyring.
    pub fn new(id: u32, key: [u8; 32]) -> Self {
        Self { id, key: Zeroizing::new(key) }
    }

    /// Makes a new key with 256 bits from the operating system.
    ///
    /// # Errors
    /// [`EntropyError`] when the operating system gives no randomness.
    pub fn generate(id: u32) -> Result<Self, EntropyError> {
        Ok(Self { id, key: entropy::key()? })
    }

    /// The number of this key among its keyring's sealing keys. Store it beside what the key sealed.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key itself, for the keyring file.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// Seals `token` for the row of the key with uid `key_uid` (the 16 bytes of its UUID).
    ///
    /// Gives 40 bytes more than the token has, different ones each time.
    ///
    /// # Errors
    /// [`SealError::Entropy`] without randomness for the nonce; [`SealError::Cipher`] cannot happen at a token's size.
    pub fn seal(&self, token: &Token, key_uid: &[u8; 16]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy::fill(&mut nonce)?;
        let payload = Payload { msg: token.expose().as_bytes(), aad: &self.associated_data(key_uid) };
        let ciphertext = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Cipher)?;
        Ok([nonce.as_slice(), &ciphertext].concat())
    }

    /// Opens what [`seal`](Self::seal) made under this key for the same `key_uid`.
    ///
    /// # Errors
    /// Any [`SealError`] but the first two.
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

/// Why a token could not be sealed or opened. No variant holds or prints any of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// There was no randomness for a nonce.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The cipher refused to seal, which it does from 256 GiB on: a fault of this program.
    #[error("the cipher refused to seal the token")]
    Cipher,
    /// The sealed bytes are fewer than nonce and tag.
    ///
    /// Likely cause: another column read in their place, or a truncated restore.
    #[error("the sealed token is too short")]
    TooShort,
    /// The tag does not match.
    ///
    /// Likely cause: the row's sealing-key id names a key of another keyring, the bytes were moved between rows, or
    /// somebody changed them.
    #[error("the sealed token does not open under this sealing key for this key")]
    Refused,
    /// The bytes opened, but what they held is no token of this format.
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
    fn what_another_implementation_sealed_opens() {
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
    fn what_opens_but_is_no_token_is_refused() {
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
