//! A token in plain text, for as long as the admin holds it.

use std::fmt;

use zeroize::Zeroizing;

use crate::base62;
use crate::checksum::checksum;
use crate::entropy::{self, EntropyError};
use crate::format::{MAX_TOKEN_LEN, RANDOM_CHARS, TokenFormat, TokenKind};
use crate::parse::{self, ParseError, ParsedToken};

/// A token in plain text, from its generation until it is returned to its owner or sealed.
///
/// The text is wiped from memory on drop. There is no `Clone`, `Display` or serde implementation, and `Debug` prints
/// only the prefix. The only access to the text is [`expose`](Self::expose), so every use can be found by that name.
pub struct Token {
    kind: TokenKind,
    text: Zeroizing<String>,
}

impl Token {
    /// Generates a new token with 256 random bits from the operating system.
    ///
    /// # Errors
    /// [`EntropyError`] if the operating system provides no random bytes.
    pub fn generate(format: &TokenFormat, kind: TokenKind) -> Result<Self, EntropyError> {
        Self::generate_from(format, kind, entropy::fill)
    }

    fn generate_from(
        format: &TokenFormat,
        kind: TokenKind,
        fill: impl FnMut(&mut [u8]) -> Result<(), EntropyError>,
    ) -> Result<Self, EntropyError> {
        // Reserve space for the longest token: a string that grows leaves a copy in freed memory, unwiped.
        let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN_LEN));
        text.push_str(format.prefix());
        text.push_str(kind.letter());
        text.push('_');
        push_random(&mut text, fill)?;
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { kind, text })
    }

    /// Parses an owned text, such as an unsealed token. The text is wiped from memory if it is not a token.
    ///
    /// # Errors
    /// The [`ParseError`] of [`TokenFormat::parse`].
    pub fn parse_owned(format: &TokenFormat, text: String) -> Result<Self, ParseError> {
        let text = Zeroizing::new(text);
        let kind = format.parse(&text)?.kind();
        Ok(Self { kind, text })
    }

    /// The whole token. Only for returning it to its owner; never put it into a log, an error or a table.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The last four characters, for [`TokenFormat::mask`]. They are part of the checksum and reveal 24 of the 256
    /// bits.
    pub fn last4(&self) -> &str {
        parse::last4(&self.text)
    }

    /// The kind of the token.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The token as input of [`DigestKey::digest`](crate::DigestKey::digest), without parsing it again.
    pub fn parsed(&self) -> ParsedToken<'_> {
        ParsedToken { kind: self.kind, text: &self.text }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}_…)", parse::visible_prefix(&self.text))
    }
}

/// Appends 43 random base62 characters, each equally likely.
fn push_random(
    text: &mut String,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), EntropyError>,
) -> Result<(), EntropyError> {
    let end = text.len() + RANDOM_CHARS;
    // 43 characters take 44.4 random bytes on average, so one fill is nearly always enough.
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

    /// 10^5 characters give each of the 62 a count of 1613 with a standard deviation of 40. The bounds are eight
    /// standard deviations away. A biased `byte % 62` would give the first eight characters a count of 1953.
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
    fn rejected_bytes_are_drawn_again() {
        let mut fillings = 0;
        let token = Token::generate_from(&TokenFormat::default(), TokenKind::Server, |buffer| {
            // The first fill has rejected bytes only, the second has 42 accepted bytes, the third has the last one.
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
    fn no_token_is_generated_without_randomness() {
        let refusing = |_: &mut [u8]| Err(EntropyError::UNSUPPORTED);
        let error = Token::generate_from(&TokenFormat::default(), TokenKind::Server, refusing).unwrap_err();
        assert_eq!(error, EntropyError::UNSUPPORTED);
    }

    #[test]
    fn parse_owned_accepts_and_refuses_the_same_texts_as_parse() {
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
    fn debug_shows_only_the_prefix() {
        let token = Token::generate(&TokenFormat::default(), TokenKind::Client).unwrap();
        assert_eq!(format!("{token:?}"), "Token(kwc_…)");
        testing::assert_hides(&format!("{token:?} {token:#?}"), &[token.expose()]);
    }

    /// A compile-time check: if `Token` implemented one of these traits, `marker` would be ambiguous.
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
