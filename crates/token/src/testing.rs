//! What this crate's tests share.

use blake3::OutputReader;

use crate::format::TokenKind;

/// The random part of every golden token.
pub(crate) const BODY: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

/// Kind, prefix and checksum of the golden tokens, worked out with Python's zlib.
pub(crate) const GOLDEN: [(TokenKind, &str, &str); 3] =
    [(TokenKind::Server, "kw", "0azNt7"), (TokenKind::Client, "kwc", "1nBYDm"), (TokenKind::Member, "kwm", "02yAN1")];

/// The golden token of a kind, put together here so that nothing in the source looks like a live one.
pub(crate) fn golden(kind: TokenKind) -> String {
    let [server, client, member] = GOLDEN.map(|(_, prefix, checksum)| format!("{prefix}_{BODY}{checksum}"));
    match kind {
        TokenKind::Server => server,
        TokenKind::Client => client,
        TokenKind::Member => member,
    }
}

/// `32` bytes that count up from `first`.
pub(crate) fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first + u8::try_from(at).unwrap_or_default())
}

/// Fails when `shown` has any 12 characters in a row that one of `secrets` has too.
pub(crate) fn assert_hides(shown: &str, secrets: &[&str]) {
    for secret in secrets {
        for window in secret.as_bytes().windows(12) {
            let found = shown.as_bytes().windows(12).any(|part| part == window);
            assert!(!found, "shows {:?} of a secret: {shown}", String::from_utf8_lossy(window));
        }
    }
}

/// Every way a key's bytes are likely to be printed by mistake.
pub(crate) fn spellings(key: &[u8; 32]) -> [String; 4] {
    [hex::encode(key), hex::encode_upper(key), format!("{key:?}"), format!("{key:#?}")]
}

/// A stream of random bytes with its seed, for the test to print.
///
/// To see a failure again, put the printed number in place of the one drawn here.
pub(crate) fn random_bytes() -> (u64, OutputReader) {
    let seed = getrandom::u64().unwrap_or_default();
    (seed, blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
}
