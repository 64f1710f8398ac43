//! The token format.
//!
//! ```text
//!   kw  c  _  8Jx…  43 characters  …q0Z  1nBYDm
//!   │   │  │  │                          └─ checksum: CRC-32 of the preceding characters, 6 characters of base62
//!   │   │  │  └─ random: 43 characters of base62, 43 · log2(62) = 256.03 bits
//!   │   │  └─ underscore, the only one in the token
//!   │   └─ kind letter: none for a server key, c for a client key, m for a member credential
//!   └─ prefix word: a deployment setting, 1 to 13 lowercase letters and digits, beginning with a letter
//! ```
//!
//! A token is at most 13 + 1 + 1 + 43 + 6 = 64 bytes: one block of BLAKE3, so a digest costs one compression.

/// Number of random characters in a token: the fewest base62 characters that carry 256 bits.
pub const RANDOM_CHARS: usize = 43;

/// Number of checksum characters at the end of a token: the fewest base62 characters that hold 32 bits.
pub const CHECKSUM_CHARS: usize = 6;

/// Maximum length of the prefix word, in bytes.
pub const MAX_PREFIX_LEN: usize = 13;

/// Maximum length of a token, in bytes: one BLAKE3 block.
pub const MAX_TOKEN_LEN: usize = 64;

// A token with the longest prefix word and a kind letter fills the block exactly.
const _: () = assert!(MAX_PREFIX_LEN + 1 + 1 + RANDOM_CHARS + CHECKSUM_CHARS == MAX_TOKEN_LEN);

/// The token format of one deployment, defined by its prefix word. Default: `kw`.
///
/// Changing the prefix word makes every token issued before MALFORMED.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenFormat {
    prefix: Box<str>,
}

impl TokenFormat {
    /// Creates the format of tokens that begin with `prefix`.
    ///
    /// To keep the tokens of two deployments distinguishable, their prefix words must differ by more than a final `c`
    /// or `m`: a server key's token under `kwc` looks like a client key's token under `kw`.
    ///
    /// # Errors
    /// [`PrefixError`] unless `prefix` is 1 to 13 lowercase ASCII letters and digits, beginning with a letter.
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

    /// The prefix word, without the kind letter and the underscore.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Formats the masked token of a key, as shown to people: `kw_…abcd`.
    ///
    /// `last4` is the result of [`Token::last4`](crate::Token::last4). Of a longer string only the last four characters
    /// are shown, so that a whole token passed by mistake stays hidden.
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

/// The kind of a token, recognizable from its prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenKind {
    /// `kw_…`: a server key's token, kept secret on a customer's servers.
    Server,
    /// `kwc_…`: a client key's token, shipped in apps and web pages (android, ios, javascript), where anyone can read
    /// it.
    Client,
    /// `kwm_…`: the credential of a member, for the admin API.
    Member,
}

impl TokenKind {
    /// The letter between the prefix word and the underscore: empty, `c` or `m`.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Server => "",
            Self::Client => "c",
            Self::Member => "m",
        }
    }
}

/// Why a prefix word is invalid. Likely cause: a typing error in the deployment's settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefixError {
    /// The word is empty or longer than [`MAX_PREFIX_LEN`].
    #[error("a token prefix has 1 to {MAX_PREFIX_LEN} characters")]
    Length,
    /// The word has a character other than a lowercase ASCII letter or digit; often an underscore, which Keyward adds
    /// automatically.
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
    fn prefix_is_1_to_13_lowercase_letters_and_digits_beginning_with_a_letter() {
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
    fn default_prefix_is_kw_and_is_valid() {
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
