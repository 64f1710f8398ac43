//! Parses a presented token. Checks shape, alphabet and checksum, in that order.

use std::fmt;

use crate::checksum::checksum;
use crate::format::{CHECKSUM_CHARS, RANDOM_CHARS, TokenFormat, TokenKind};

impl TokenFormat {
    /// Parses a presented token.
    ///
    /// Accepts any text as input, does not allocate and does not panic. Computes only the checksum, so that an invalid
    /// text costs neither a digest nor a lookup. A parsed token is well formed, but it need not have been issued: only
    /// a lookup of its digest can decide that.
    ///
    /// The text is not trimmed: a text with surrounding whitespace is refused.
    ///
    /// # Errors
    /// [`ParseError`]: the first of its variants, in their order, that applies.
    pub fn parse<'a>(&self, text: &'a str) -> Result<ParsedToken<'a>, ParseError> {
        let bytes = text.as_bytes();
        let (kind, body) = self.split_prefix(bytes).ok_or(ParseError::WrongPrefix)?;
        let body: &[u8; RANDOM_CHARS + CHECKSUM_CHARS] = body.try_into().map_err(|_| ParseError::WrongLength)?;
        // A fold without early exit over a fixed length compiles to vector instructions.
        if !body.iter().fold(true, |good, byte| good & byte.is_ascii_alphanumeric()) {
            return Err(ParseError::BadCharacter);
        }
        let (covered, given) = bytes.split_last_chunk::<CHECKSUM_CHARS>().ok_or(ParseError::WrongLength)?;
        if checksum(covered) != *given {
            return Err(ParseError::BadChecksum);
        }
        Ok(ParsedToken { kind, text })
    }

    fn split_prefix<'a>(&self, bytes: &'a [u8]) -> Option<(TokenKind, &'a [u8])> {
        match bytes.strip_prefix(self.prefix().as_bytes())? {
            [b'_', body @ ..] => Some((TokenKind::Server, body)),
            [b'c', b'_', body @ ..] => Some((TokenKind::Client, body)),
            [b'm', b'_', body @ ..] => Some((TokenKind::Member, body)),
            _ => None,
        }
    }
}

/// A well-formed token, borrowed from its text. Made only by [`TokenFormat::parse`] and
/// [`Token::parsed`](crate::Token::parsed).
///
/// A well-formed token need not have been issued. `Debug` prints only the prefix.
#[derive(Clone, Copy)]
pub struct ParsedToken<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
}

impl<'a> ParsedToken<'a> {
    /// The kind of the token, from its prefix.
    pub fn kind(self) -> TokenKind {
        self.kind
    }

    /// The whole token. It is a secret: never put it into a log or an error.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// The last four characters, for [`TokenFormat::mask`]. They are part of the checksum.
    pub fn last4(self) -> &'a str {
        last4(self.text)
    }
}

impl fmt::Debug for ParsedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParsedToken({}_…)", visible_prefix(self.text))
    }
}

/// The last four characters of a well-formed token.
pub(crate) fn last4(text: &str) -> &str {
    text.len().checked_sub(4).and_then(|start| text.get(start..)).unwrap_or_default()
}

/// The part of a token before its underscore. Empty if the text has no underscore.
pub(crate) fn visible_prefix(text: &str) -> &str {
    text.split_once('_').map_or("", |(prefix, _)| prefix)
}

/// Why a text is not a token of this deployment. Validators answer each of them with the verdict MALFORMED. No variant
/// contains or prints any of the text.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// The text does not begin with the prefix word, an optional kind letter, and `_`.
    ///
    /// Likely cause: a credential of another system, an empty variable, or a token of another deployment.
    #[error("the token does not begin with a prefix of this deployment")]
    WrongPrefix,
    /// The number of characters after the prefix is not 43 + 6.
    ///
    /// Likely cause: the token was truncated or joined with other text while copying, or was read from a file with its
    /// newline.
    #[error("the token has the wrong length")]
    WrongLength,
    /// A character after the prefix is neither an ASCII letter nor a digit.
    ///
    /// Likely cause: the token was masked, quoted or URL-encoded, or a configuration still has a placeholder.
    #[error("the token has a character that is neither letter nor digit")]
    BadCharacter,
    /// The checksum does not match the text before it.
    ///
    /// Likely cause: a typing error, a change of letter case, or an invented token.
    #[error("the token's checksum does not match")]
    BadChecksum,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::base62::ALPHABET;
    use crate::testing::{self, BODY, GOLDEN, golden};

    fn check(text: &str, expected: Result<TokenKind, ParseError>) {
        assert_eq!(TokenFormat::default().parse(text).map(ParsedToken::kind), expected, "{text:?}");
    }

    /// Checksums computed with Python's zlib, and computed again here with crc32fast and big-endian long division.
    #[test]
    fn golden_tokens_parse_and_their_checksum_can_be_recomputed() {
        for (kind, prefix, checksum) in GOLDEN {
            let text = golden(kind);
            check(&text, Ok(kind));
            let mut rest = crc32fast::hash(format!("{prefix}_{BODY}").as_bytes());
            let mut digits = Vec::new();
            for weight in [916_132_832, 14_776_336, 238_328, 3_844, 62, 1] {
                digits.push(ALPHABET[(rest / weight) as usize]);
                rest %= weight;
            }
            assert_eq!(digits, checksum.as_bytes());
        }
    }

    #[test]
    fn accessors_return_the_parsed_values() {
        let text = golden(TokenKind::Client);
        let parsed = TokenFormat::default().parse(&text).unwrap();
        assert_eq!(parsed.kind(), TokenKind::Client);
        assert_eq!(parsed.text(), text);
        assert_eq!(parsed.last4(), "BYDm");
    }

    #[test]
    fn every_single_character_change_is_refused() {
        let mut others: Vec<char> = ALPHABET.iter().copied().map(char::from).collect();
        others.extend(['_', '-', ' ', '.', '\0', '\n', '\u{7f}', 'é', '𝟜']);
        for (kind, ..) in GOLDEN {
            let text = golden(kind);
            for (position, original) in text.char_indices() {
                for other in others.iter().filter(|other| **other != original) {
                    let mut changed = text.clone();
                    changed.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
                    assert!(TokenFormat::default().parse(&changed).is_err(), "{other:?} at {position} of {kind:?}");
                }
            }
        }
    }

    #[test]
    fn every_swap_of_two_neighbours_is_refused() {
        let text = golden(TokenKind::Server);
        for position in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes.swap(position, position + 1);
            let swapped = String::from_utf8(bytes).unwrap();
            assert!(swapped == text || TokenFormat::default().parse(&swapped).is_err(), "at {position}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let text = golden(TokenKind::Server);
        for length in 0..text.len() {
            assert!(TokenFormat::default().parse(&text[..length]).is_err(), "first {length}");
            assert!(TokenFormat::default().parse(&text[text.len() - length..]).is_err(), "last {length}");
        }
        for character in ALPHABET.iter().copied().map(char::from).chain([' ', '\0', '\n', '_']) {
            check(&format!("{text}{character}"), Err(ParseError::WrongLength));
            check(&format!("{character}{text}"), Err(ParseError::WrongPrefix));
        }
        check(&format!("{text}{text}"), Err(ParseError::WrongLength));
        check(&format!("{text}{}", "0".repeat(1 << 20)), Err(ParseError::WrongLength));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let text = golden(TokenKind::Server);
        check("", Err(ParseError::WrongPrefix));
        check("kw", Err(ParseError::WrongPrefix));
        check("kwx_", Err(ParseError::WrongPrefix));
        check("kwcm_", Err(ParseError::WrongPrefix));
        check(&text.to_uppercase(), Err(ParseError::WrongPrefix));
        check(&text.replace("kw_", "kx_"), Err(ParseError::WrongPrefix));
        check("kw_", Err(ParseError::WrongLength));
        check(&text.replace("kw_", "kw__"), Err(ParseError::WrongLength));
        check(&text.replacen('9', "-", 1), Err(ParseError::BadCharacter));
        check(&text.replacen('9', "\n", 1), Err(ParseError::BadCharacter));
        check(&text.replacen('9', "\0", 1), Err(ParseError::BadCharacter));
        check(&text.replacen("89", "é", 1), Err(ParseError::BadCharacter));
        check(&text.replacen('9', "8", 1), Err(ParseError::BadChecksum));
        check(&text.replace("kw_", "kwc_"), Err(ParseError::BadChecksum));
    }

    #[test]
    fn a_bad_character_is_refused_even_with_a_correct_checksum() {
        for other in (0..=0x7f).map(char::from).filter(|other| !other.is_ascii_alphanumeric()) {
            let covered = format!("kw_{}", BODY.replacen('9', &other.to_string(), 1));
            let checksum: String = checksum(covered.as_bytes()).map(char::from).iter().collect();
            check(&format!("{covered}{checksum}"), Err(ParseError::BadCharacter));
        }
    }

    /// Six base62 characters can encode more than 32 bits, but each checksum has exactly one encoding.
    #[test]
    fn checksum_codes_beyond_32_bits_are_refused() {
        let text = golden(TokenKind::Server);
        let covered = &text[..text.len() - CHECKSUM_CHARS];
        let checksum = u64::from(crc32fast::hash(covered.as_bytes()));
        // The checksum plus 2^32: a decoder with wrapping arithmetic would accept it.
        let mut rest = checksum + (1 << 32);
        let mut digits = [0; CHECKSUM_CHARS];
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[usize::try_from(rest % 62).unwrap()];
            rest /= 62;
        }
        assert_eq!(rest, 0, "fits six characters");
        let alias = format!("{covered}{}", std::str::from_utf8(&digits).unwrap());
        check(&alias, Err(ParseError::BadChecksum));
    }

    #[test]
    fn another_deployments_tokens_have_the_wrong_prefix() {
        let acme = TokenFormat::new("acme").unwrap();
        let text = golden(TokenKind::Server);
        assert_eq!(acme.parse(&text).unwrap_err(), ParseError::WrongPrefix);
    }

    /// Half of the inputs have a token's prefix, and most of these have a token's length, so that every check is
    /// reached.
    #[test]
    fn arbitrary_bytes_never_panic() {
        let (seed, mut random) = testing::random_bytes();
        println!("seed {seed}");
        let format = TokenFormat::default();
        let mut faults = HashSet::new();
        for _ in 0..100_000 {
            let mut head = [0; 2];
            random.fill(&mut head);
            let mut tail = vec![0; usize::from(head[0] % 128)];
            let start: &[u8] = match head[1] % 6 {
                0 => b"kw_",
                1 => b"kwc_",
                2 => b"kwm_",
                _ => b"",
            };
            if !start.is_empty() && head[0] % 8 != 0 {
                tail.resize(RANDOM_CHARS + CHECKSUM_CHARS, 0);
            }
            random.fill(&mut tail);
            if head[0] & 64 != 0 {
                for byte in &mut tail {
                    *byte = ALPHABET[usize::from(*byte % 62)];
                }
            }
            let bytes = [start, &tail].concat();
            let text = String::from_utf8_lossy(&bytes);
            // The test looks for panics. About one in 2^32 inputs may be a valid token.
            match format.parse(&text) {
                Ok(parsed) => assert_eq!(parsed.text(), text),
                Err(fault) => _ = faults.insert(fault),
            }
        }
        assert_eq!(faults.len(), 4, "every check is reached: {faults:?}");
    }

    #[test]
    fn debug_and_errors_show_nothing_of_the_text() {
        let text = golden(TokenKind::Client);
        let parsed = TokenFormat::default().parse(&text).unwrap();
        assert_eq!(format!("{parsed:?}"), "ParsedToken(kwc_…)");
        let changed = text.replacen('9', "8", 1);
        let error = TokenFormat::default().parse(&changed).unwrap_err();
        testing::assert_hides(&format!("{parsed:?} {error:?} {error}"), &[&text, &changed]);
    }
}
