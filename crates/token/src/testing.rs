//! Helpers for this crate's tests.

use blake3::OutputReader;

use crate::format::TokenKind;

/// The random part of every golden token.
pub(crate) const BODY: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

/// Kind, prefix and checksum of the golden tokens, computed with Python's zlib.
pub(crate) const GOLDEN: [(TokenKind, &str, &str); 3] =
    [(TokenKind::Server, "kw", "0azNt7"), (TokenKind::Client, "kwc", "1nBYDm"), (TokenKind::Member, "kwm", "02yAN1")];

/// Returns the golden token of a kind. It is composed here so that no text in the source looks like a live token.
pub(crate) fn golden(kind: TokenKind) -> String {
    let [server, client, member] = GOLDEN.map(|(_, prefix, checksum)| format!("{prefix}_{BODY}{checksum}"));
    match kind {
        TokenKind::Server => server,
        TokenKind::Client => client,
        TokenKind::Member => member,
    }
}

/// Returns 32 bytes that count up from `first`.
pub(crate) fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first + u8::try_from(at).unwrap_or_default())
}

/// Panics if `shown` has 12 consecutive characters in common with one of `secrets`.
pub(crate) fn assert_hides(shown: &str, secrets: &[&str]) {
    for secret in secrets {
        for window in secret.as_bytes().windows(12) {
            let found = shown.as_bytes().windows(12).any(|part| part == window);
            assert!(!found, "shows {:?} of a secret: {shown}", String::from_utf8_lossy(window));
        }
    }
}

/// Returns the texts that would appear if the bytes of a key were printed by mistake.
pub(crate) fn spellings(key: &[u8; 32]) -> [String; 4] {
    [hex::encode(key), hex::encode_upper(key), format!("{key:?}"), format!("{key:#?}")]
}

/// Returns a stream of random bytes and its seed, which the test prints.
///
/// To reproduce a failure, replace the seed here with the printed one.
pub(crate) fn random_bytes() -> (u64, OutputReader) {
    let seed = getrandom::u64().unwrap_or_default();
    (seed, blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
}
