//! The secret itself, for the moments when the platform holds one in plain.

use std::fmt;

use zeroize::Zeroizing;

use crate::base62;
use crate::checksum::checksum;
use crate::entropy::{self, EntropyError};
use crate::format::{MAX_TOKEN_LEN, RANDOM_CHARS, TokenFormat, TokenKind};
use crate::parse::{self, ParseError, ParsedToken};

/// A token in plain text, between being made and being handed out or sealed.
///
/// Wiped from memory when dropped. It has neither `Clone`, `Display` nor a serde implementation, and its `Debug`
/// prints the prefix alone: the only way to the text is [`expose`](Self::expose), which a search for that word finds.
pub struct Token {
    kind: TokenKind,
    text: Zeroizing<String>,
}

impl Token {
    /// Makes a new token with 256 bits from the operating system.
    ///
    /// # Errors
    /// [`EntropyError`] when the operating system gives no randomness.
    pub fn generate(format: &TokenFormat, kind: TokenKind) -> Result<Self, EntropyError> {
        Self::generate_from(format, kind, entropy::fill)
    }

    fn generate_from(
        format: &TokenFormat,
        kind: TokenKind,
        fill: impl FnMut(&mut [u8]) -> Result<(), EntropyError>,
    ) -> Result<Self, EntropyError> {
        // Room for the longest token from the start: a string that grows leaves its old copy behind, unwiped.
        let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN_LEN));
        text.push_str(format.prefix());
        text.push_str(kind.letter());
        text.push('_');
        push_random(&mut text, fill)?;
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { kind, text })
    }

    /// Takes text that should be a token, as when one comes back from unsealing. The text is wiped if it is refused.
    ///
    /// # Errors
    /// [`ParseError`], as [`TokenFormat::parse`] gives it.
    pub fn parse_owned(format: &TokenFormat, text: String) -> Result<Self, ParseError> {
        let text = Zeroizing::new(text);
        let kind = format.parse(&text)?.kind();
        Ok(Self { kind, text })
    }

    /// The whole token. Only for handing it to its owner; never for a log, an error or a table.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The last four characters, which [`TokenFormat::mask`] shows. They belong to the checksum: whoever knows them
    /// still lacks 232 bits.
    pub fn last4(&self) -> &str {
        parse::last4(&self.text)
    }

    /// Whom the token is for.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The token as [`DigestKey::digest`](crate::DigestKey::digest) takes it, without reading it a second time.
    pub fn parsed(&self) -> ParsedToken<'_> {
        ParsedToken { kind: self.kind, text: &self.text }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}_…)", parse::visible_prefix(&self.text))
    }
}

/// Appends 43 random characters, each of the 62 equally likely.
fn push_random(
    text: &mut String,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), EntropyError>,
) -> Result<(), EntropyError> {
    let end = text.len() + RANDOM_CHARS;
    // 43 characters take 44.4 bytes on average, so one filling is nearly always enough.
    let mut random = Zeroizing::new([0; 64]);
    while text.len() < end {
        fill(random.as_mut_slice())?;
        let missing = end - text.len();
        text.extend(random.iter().copied().filter_map(base62::symbol).take(missing));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::fmt::Display;

    use super::*;
    use crate::base62::ALPHABET;
    use crate::format::CHECKSUM_CHARS;
    use crate::testing::{self, golden};

    const KINDS: [TokenKind; 3] = [TokenKind::Server, TokenKind::Client, TokenKind::Member];

    #[test]
    fn generated_tokens_are_unique_and_parse_as_their_kind() {
        let longest = TokenFormat::new("abcdefghijklm").unwrap();
        for format in [TokenFormat::default(), longest] {
            let mut seen = HashSet::new();
            for round in 0..3_000 {
                let token = Token::generate(&format, KINDS[round % 3]).unwrap();
                let parsed = format.parse(token.expose()).unwrap();
                assert_eq!(parsed.kind(), token.kind());
                assert!(token.expose().len() <= MAX_TOKEN_LEN);
                assert!(token.expose().ends_with(token.last4()));
                assert_eq!(token.last4().len(), 4);
                assert!(seen.insert(token.expose().to_owned()), "the same token twice");
            }
        }
    }

    #[test]
    fn the_longest_token_fills_one_hash_block_exactly() {
        let format = TokenFormat::new("abcdefghijklm").unwrap();
        assert_eq!(Token::generate(&format, TokenKind::Client).unwrap().expose().len(), 64);
        assert_eq!(Token::generate(&format, TokenKind::Server).unwrap().expose().len(), 63);
    }

    /// 10^5 characters put 1613 on each of the 62 with a deviation of 40; the bounds are eight deviations away, while
    /// a plain remainder of 256 would put 1953 on the first eight.
    #[test]
    fn characters_are_roughly_uniform() {
        let format = TokenFormat::default();
        let mut counts: HashMap<u8, u32> = HashMap::new();
        let tokens = 100_000_usize.div_ceil(RANDOM_CHARS);
        for _ in 0..tokens {
            let token = Token::generate(&format, TokenKind::Server).unwrap();
            for byte in token.expose().bytes().skip(3).take(RANDOM_CHARS) {
                *counts.entry(byte).or_default() += 1;
            }
        }
        for character in ALPHABET {
            let count = counts.get(character).copied().unwrap_or_default();
            assert!((1_290..=1_935).contains(&count), "{} came {count} times", char::from(*character));
        }
    }

    #[test]
    fn refused_bytes_are_drawn_again() {
        let mut fillings = 0;
        let token = Token::generate_from(&TokenFormat::default(), TokenKind::Server, |buffer| {
            // First 255 alone, of which none is fair; then 42 fair ones in all; then the last.
            buffer.fill(255);
            match fillings {
                0 => {}
                1 => buffer[..42].fill(0),
                _ => buffer[63] = 247,
            }
            fillings += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(fillings, 3);
        assert_eq!(token.expose()[3..3 + RANDOM_CHARS], format!("{}z", "0".repeat(42)));
        assert_eq!(token.expose().len(), 3 + RANDOM_CHARS + CHECKSUM_CHARS);
    }

    #[test]
    fn no_token_is_made_without_randomness() {
        let refusing = |_: &mut [u8]| Err(EntropyError::UNSUPPORTED);
        let error = Token::generate_from(&TokenFormat::default(), TokenKind::Server, refusing).unwrap_err();
        assert_eq!(error, EntropyError::UNSUPPORTED);
    }

    #[test]
    fn owned_text_is_taken_back_or_refused_as_parsing_does() {
        let format = TokenFormat::default();
        for kind in KINDS {
            let token = Token::parse_owned(&format, golden(kind)).unwrap();
            assert_eq!(token.kind(), kind);
            assert_eq!(token.expose(), golden(kind));
            assert_eq!(token.parsed().text(), token.expose());
        }
        let cut = golden(TokenKind::Server).replacen('0', "", 1);
        assert_eq!(Token::parse_owned(&format, cut).unwrap_err(), ParseError::WrongLength);
    }

    #[test]
    fn debug_shows_the_prefix_alone() {
        let token = Token::generate(&TokenFormat::default(), TokenKind::Client).unwrap();
        assert_eq!(format!("{token:?}"), "Token(kwc_…)");
        testing::assert_hides(&format!("{token:?} {token:#?}"), &[token.expose()]);
    }

    /// A compile-time check: were `Token` to gain one of these traits, `marker` would be ambiguous.
    #[test]
    fn a_token_is_neither_clone_nor_display() {
        trait UnlessClone<Marker> {
            fn marker() {}
        }
        impl<T> UnlessClone<()> for T {}
        impl<T: Clone> UnlessClone<u8> for T {}
        trait UnlessDisplay<Marker> {
            fn marker() {}
        }
        impl<T> UnlessDisplay<()> for T {}
        impl<T: Display> UnlessDisplay<u8> for T {}
        <Token as UnlessClone<_>>::marker();
        <Token as UnlessDisplay<_>>::marker();
    }
}
