//! Token digests: the only form of a token that the database and the validators store.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{self, EntropyError};
use crate::parse::ParsedToken;

/// A key for computing [`Digest`]s, with the id that rows and messages refer to.
///
/// Digests are keyed so that a stolen table reveals nothing about tokens: without the key, not even a guess can be
/// checked against it. The key is wiped from memory on drop. `Debug` prints only the id.
#[derive(Clone)]
pub struct DigestKey {
    id: u32,
    key: Zeroizing<[u8; 32]>,
}

impl DigestKey {
    /// Wraps an existing key, such as one from a keyring or from a Welcome of the sync protocol.
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

    /// The id of this key, unique among the digest keys of its keyring.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The secret key bytes. Write a keyring's key only to the keyring file; use a derived key for hashing, or send it
    /// in a Welcome.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// Computes the digest of a token: BLAKE3 in keyed mode over its whole text, including prefix and checksum.
    ///
    /// A token fits in one BLAKE3 block, so this takes one compression and no allocation.
    pub fn digest(&self, token: ParsedToken<'_>) -> Digest {
        Digest(blake3::keyed_hash(&self.key, token.text().as_bytes()))
    }

    /// Derives the key for one purpose: `blake3::derive_key(context, key)`. The derived key has the same id.
    ///
    /// [`context`](crate::context) has one context for each purpose, so no two purposes share a key, and a derived key
    /// does not reveal its root. A digest or chain value made with a derived key can be verified for as long as the
    /// keyring keeps the digest key with that id.
    ///
    /// A digest key of a keyring is a root: it is never used for hashing and never sent. Validators receive the key
    /// derived for [`TOKEN_DIGESTS`](crate::context::TOKEN_DIGESTS), from which no other key can be computed.
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

/// The digest of a token under a [`DigestKey`]: 32 uniformly distributed bytes that do not reveal the token.
///
/// Comparison takes constant time. `Debug` prints the first four bytes, enough to distinguish log lines.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// Wraps an existing digest, such as one from a database row or a message.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// The 32 bytes. Compare [`Digest`]s instead of byte arrays: the time of an array comparison reveals where two
    /// arrays differ.
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

/// The length of a byte slice is not that of a [`Digest`], 32 bytes.
///
/// Likely cause: the wrong column or field was read, or a message was truncated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest has 32 bytes, not {length}")]
pub struct DigestLengthError {
    /// Length of the slice, in bytes.
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

    /// Test vectors computed with the blake3 package for Python, and computed again here with the hasher.
    #[test]
    fn digests_equal_the_golden_ones_and_can_be_recomputed() {
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

    /// The test vector was computed with the blake3 package for Python.
    #[test]
    fn a_derived_key_equals_the_golden_one_and_keeps_the_id() {
        let derived = DigestKey::new(7, counting(0)).derive(context::AUDIT_CHAIN);
        assert_eq!(derived.id(), 7);
        assert_eq!(hex::encode(derived.expose()), "49bf67a2902ab12afef1b87cd80f07bd97c7178bcc5a0356b1e8a088573c6334");
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let key = DigestKey::new(1, counting(0));
        let purposes = [
            context::MEMBER_CREDENTIALS,
            context::AUDIT_CHAIN,
            context::ROW_MACS,
            context::PAGE_TOKENS,
            context::TOKEN_DIGESTS,
            context::BACKUPS,
        ];
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
    fn a_digest_needs_exactly_32_bytes() {
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
