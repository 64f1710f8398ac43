//! The only form of a token that tables and validators know.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{self, EntropyError};
use crate::parse::ParsedToken;

/// A key for [`Digest`]s, and the number that rows and messages know it by.
///
/// Without it a stolen table tells nothing about tokens, not even whether a guessed one is in it. Wiped from memory
/// when dropped; `Debug` prints the id alone.
#[derive(Clone)]
pub struct DigestKey {
    id: u32,
    key: Zeroizing<[u8; 32]>,
}

impl DigestKey {
    /// Takes a key that was made before, as from a keyring or a validator's Welcome.
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

    /// The number of this key among its keyring's digest keys.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key itself. For the keyring file, and of derived keys for a validator's Welcome and for hashing.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The digest of a token: BLAKE3 in keyed mode over the whole of its text, prefix and checksum included.
    ///
    /// A token is at most one block of BLAKE3, so this is one compression. No allocation.
    pub fn digest(&self, token: ParsedToken<'_>) -> Digest {
        Digest(blake3::keyed_hash(&self.key, token.text().as_bytes()))
    }

    /// Makes the key for another purpose: `blake3::derive_key(context, this key)`, under the same id.
    ///
    /// Contexts live in [`context`](crate::context), one for each purpose, so that no two purposes share a key and
    /// none of them learns this one. A derived key is as old as the key it comes from: whatever was made under it can
    /// be verified for as long as the keyring keeps the digest key of that id.
    ///
    /// A keyring's digest key is a root: it is never used or sent itself. Validators are handed the key derived for
    /// [`TOKEN_DIGESTS`](crate::context::TOKEN_DIGESTS), from which none of the others can be had.
    #[must_use]
    pub fn derive(&self, context: &'static str) -> Self {
        Self::new(self.id, blake3::derive_key(context, self.key.as_slice()))
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The digest of a token under a [`DigestKey`]: 32 bytes, spread evenly, from which no token can be had.
///
/// Compared in constant time. `Debug` prints the first four bytes: enough to tell log lines apart.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// Takes a digest that was made before, as from a table or a message.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// The 32 bytes. Compare digests, not these: arrays are compared in time that tells where they differ.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestLengthError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestLengthError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| DigestLengthError { length: bytes.len() })?;
        Ok(Self::from_bytes(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.as_bytes();
        write!(f, "Digest({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// Bytes that should be a [`Digest`] are not 32.
///
/// Likely cause: another column or field read in its place, or a message cut short.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest has 32 bytes, not {length}")]
pub struct DigestLengthError {
    /// How many bytes there were.
    pub length: usize,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::context;
    use crate::format::{TokenFormat, TokenKind};
    use crate::testing::{self, counting, golden};

    fn digest(key: &DigestKey, kind: TokenKind) -> Digest {
        key.digest(TokenFormat::default().parse(&golden(kind)).unwrap())
    }

    /// Digests worked out with the blake3 package for Python, and again here with the hasher.
    #[test]
    fn golden_digests_hold_and_can_be_recomputed() {
        let key = DigestKey::new(1, counting(0));
        for (kind, expected) in [
            (TokenKind::Server, "b4437e36b42db2cc4d47f81bb7115fad10d4f026c2186276ac9eae19b207b83b"),
            (TokenKind::Client, "64b364b8ad944e9e3b7e4d0959e8dde554bdc5a62d49ff6480e5ab14940e5ed3"),
            (TokenKind::Member, "4cc3764ca76e06bec4f51522bdacd2f28accdde95ad1d21e4599068728c32906"),
        ] {
            let digest = digest(&key, kind);
            assert_eq!(hex::encode(digest.as_bytes()), expected);
            let again = blake3::Hasher::new_keyed(&counting(0)).update(golden(kind).as_bytes()).finalize();
            assert_eq!(digest.as_bytes(), again.as_bytes());
        }
    }

    #[test]
    fn another_key_gives_another_digest() {
        let one = digest(&DigestKey::new(1, counting(0)), TokenKind::Server);
        let other = digest(&DigestKey::new(1, counting(1)), TokenKind::Server);
        assert_ne!(one, other);
    }

    #[test]
    fn a_generated_token_has_the_digest_of_its_text() {
        let format = TokenFormat::default();
        let key = DigestKey::generate(1).unwrap();
        let token = crate::Token::generate(&format, TokenKind::Server).unwrap();
        assert_eq!(key.digest(token.parsed()), key.digest(format.parse(token.expose()).unwrap()));
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(DigestKey::generate(1).unwrap().expose(), DigestKey::generate(1).unwrap().expose());
    }

    /// The vector was worked out with the blake3 package for Python.
    #[test]
    fn derived_keys_hold_and_keep_the_id() {
        let derived = DigestKey::new(7, counting(0)).derive(context::AUDIT_CHAIN);
        assert_eq!(derived.id(), 7);
        assert_eq!(hex::encode(derived.expose()), "49bf67a2902ab12afef1b87cd80f07bd97c7178bcc5a0356b1e8a088573c6334");
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let key = DigestKey::new(1, counting(0));
        let purposes =
            [context::MEMBER_CREDENTIALS, context::AUDIT_CHAIN, context::PAGE_TOKENS, context::TOKEN_DIGESTS];
        let mut keys: Vec<[u8; 32]> = purposes.iter().map(|purpose| *key.derive(purpose).expose()).collect();
        keys.push(*key.expose());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), purposes.len() + 1);
    }

    #[test]
    fn digests_differing_in_any_one_bit_are_unequal() {
        let digest = Digest::from_bytes(counting(0));
        assert_eq!(digest, Digest::from_bytes(counting(0)));
        for bit in 0..256 {
            let mut bytes = counting(0);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest, Digest::from_bytes(bytes), "bit {bit}");
        }
    }

    #[test]
    fn only_32_bytes_are_a_digest() {
        let bytes = counting(0);
        assert_eq!(Digest::try_from(bytes.as_slice()), Ok(Digest::from_bytes(bytes)));
        for length in [0, 31, 33] {
            assert_eq!(Digest::try_from(vec![0; length].as_slice()), Err(DigestLengthError { length }));
        }
    }

    #[test]
    fn debug_shows_no_key_and_four_bytes_of_a_digest() {
        let key = DigestKey::generate(3).unwrap();
        assert_eq!(format!("{key:?}"), "DigestKey { id: 3, .. }");
        testing::assert_hides(&format!("{key:?} {key:#?}"), &testing::spellings(key.expose()).each_ref().map(|s| &**s));
        let digest = digest(&DigestKey::new(1, counting(0)), TokenKind::Server);
        assert_eq!(format!("{digest:?}"), "Digest(b4437e36…)");
    }
}
