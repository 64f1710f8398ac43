//! What a token looks like.
//!
//! ```text
//!   kw  c  _  8Jx…  43 characters  …q0Z  1nBYDm
//!   │   │  │  │                          └─ checksum: CRC-32 of all before it, 6 characters of base62
//!   │   │  │  └─ random: 43 characters of base62, 43 · log2(62) = 256.03 bits
//!   │   │  └─ underscore, which occurs nowhere else
//!   │   └─ kind letter: none for a server's token, c for a client's, m for a member's credential
//!   └─ prefix word: a deployment setting, 1 to 13 lowercase letters and digits, a letter first
//! ```
//!
//! A token is at most 13 + 1 + 1 + 43 + 6 = 64 bytes: one block of BLAKE3, so a digest costs one compression.

/// Characters of randomness in a token: the fewest in base62 that carry 256 bits.
pub const RANDOM_CHARS: usize = 43;

/// Characters of checksum at a token's end: the fewest in base62 that hold 32 bits.
pub const CHECKSUM_CHARS: usize = 6;

/// The longest prefix word, in bytes.
pub const MAX_PREFIX_LEN: usize = 13;

/// The longest token, in bytes: one block of BLAKE3.
pub const MAX_TOKEN_LEN: usize = 64;

// The longest word with a kind letter and the underscore fills the block exactly.
const _: () = assert!(MAX_PREFIX_LEN + 1 + 1 + RANDOM_CHARS + CHECKSUM_CHARS == MAX_TOKEN_LEN);

/// The format of one deployment's tokens, known by their prefix word; `kw` unless set otherwise.
///
/// Changing the word makes every token issued before MALFORMED.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenFormat {
    prefix: Box<str>,
}

impl TokenFormat {
    /// Makes the format of tokens that begin with `prefix`.
    ///
    /// Deployments that should not be mistaken for each other need words that differ by more than a final `c` or `m`:
    /// a server's token under `kwc` looks like a client's under `kw`.
    ///
    /// # Errors
    /// [`PrefixError`] unless `prefix` is 1 to 13 lowercase ASCII letters and digits, a letter first.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let first = *prefix.as_bytes().first().ok_or(PrefixError::Length)?;
        if prefix.len() > MAX_PREFIX_LEN {
            return Err(PrefixError::Length);
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(PrefixError::Character);
        }
        if !first.is_ascii_lowercase() {
            return Err(PrefixError::FirstCharacter);
        }
        Ok(Self { prefix: prefix.into() })
    }

    /// The prefix word, without kind letter and underscore.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How people are shown which token a key has: `kw_…abcd`.
    ///
    /// `last4` is what [`Token::last4`](crate::Token::last4) gave. Should it be longer, only its last four characters
    /// are shown: a whole token handed in by mistake stays hidden.
    pub fn mask(&self, kind: TokenKind, last4: &str) -> String {
        let start = last4.char_indices().nth_back(3).map_or(0, |(start, _)| start);
        let shown = last4.get(start..).unwrap_or_default();
        format!("{}{}_…{shown}", self.prefix, kind.letter())
    }
}

impl Default for TokenFormat {
    /// The format with the prefix word `kw`.
    fn default() -> Self {
        Self { prefix: "kw".into() }
    }
}

/// Whom a token is for, as its prefix tells a scanner and a server at sight.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenKind {
    /// `kw_…`: held by a customer's servers, and secret.
    Server,
    /// `kwc_…`: shipped in apps and pages (android, ios, javascript), where the world can read it.
    Client,
    /// `kwm_…`: the credential of a member, who calls the admin API.
    Member,
}

impl TokenKind {
    /// What stands between the prefix word and the underscore: nothing, `c` or `m`.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Server => "",
            Self::Client => "c",
            Self::Member => "m",
        }
    }
}

/// Why a prefix word is refused. Likely cause of each: a typing error in the deployment's settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefixError {
    /// The word is empty or longer than [`MAX_PREFIX_LEN`].
    #[error("a token prefix has 1 to {MAX_PREFIX_LEN} characters")]
    Length,
    /// The word holds something else than lowercase ASCII letters and digits; often the underscore, which is added
    /// without asking.
    #[error("a token prefix has only lowercase ASCII letters and digits, and no underscore")]
    Character,
    /// The word begins with a digit.
    #[error("a token prefix begins with a letter")]
    FirstCharacter,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_one_to_thirteen_lowercase_letters_and_digits_with_a_letter_first() {
        for good in ["k", "kw", "acme2", "abcdefghijklm"] {
            assert_eq!(TokenFormat::new(good).unwrap().prefix(), good);
        }
        for (bad, error) in [
            ("", PrefixError::Length),
            ("abcdefghijklmn", PrefixError::Length),
            ("kw_", PrefixError::Character),
            ("Kw", PrefixError::Character),
            ("k-w", PrefixError::Character),
            ("k w", PrefixError::Character),
            ("kü", PrefixError::Character),
            ("2kw", PrefixError::FirstCharacter),
        ] {
            assert_eq!(TokenFormat::new(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn default_prefix_is_kw_and_passes_its_own_rule() {
        assert_eq!(TokenFormat::new("kw").unwrap(), TokenFormat::default());
    }

    #[test]
    fn mask_shows_the_prefix_and_the_last_four_characters() {
        let format = TokenFormat::default();
        assert_eq!(format.mask(TokenKind::Server, "abcd"), "kw_…abcd");
        assert_eq!(format.mask(TokenKind::Client, "abcd"), "kwc_…abcd");
        assert_eq!(format.mask(TokenKind::Member, "abcd"), "kwm_…abcd");
        assert_eq!(TokenFormat::new("acme").unwrap().mask(TokenKind::Client, "wxyz"), "acmec_…wxyz");
    }

    #[test]
    fn mask_never_shows_more_than_four_characters() {
        let format = TokenFormat::default();
        assert_eq!(format.mask(TokenKind::Server, &"x".repeat(52)), "kw_…xxxx");
        assert_eq!(format.mask(TokenKind::Server, "ab"), "kw_…ab");
        assert_eq!(format.mask(TokenKind::Server, ""), "kw_…");
        assert_eq!(format.mask(TokenKind::Server, "äöüßéè"), "kw_…üßéè");
    }
}
