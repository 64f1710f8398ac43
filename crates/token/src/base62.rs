//! The 62 characters tokens are written in: letters and digits alone, so that a double click selects a whole token.

/// The digits of base 62 in ASCII order. Part of the token format: never reorder it.
pub(crate) const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The largest multiple of 62 that a byte can count to.
const FAIR_BYTES: u8 = 248;

/// Turns one random byte into one character, each of the 62 equally likely, or refuses the byte.
///
/// The eight bytes from 248 up are refused: folded in, they would make the first eight characters likelier (5/256
/// each instead of 4/256).
pub(crate) fn symbol(random: u8) -> Option<char> {
    (random < FAIR_BYTES).then(|| char::from(digit(u32::from(random))))
}

/// The character of `number`'s last base62 digit.
pub(crate) fn digit(number: u32) -> u8 {
    // A remainder of 62 is always within the 62 characters.
    ALPHABET[(number % 62) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_every_ascii_letter_and_digit_in_ascii_order() {
        let alphanumeric: Vec<u8> = (0..=u8::MAX).filter(u8::is_ascii_alphanumeric).collect();
        assert_eq!(alphanumeric, ALPHABET);
    }

    #[test]
    fn each_character_stands_for_exactly_four_bytes_and_eight_bytes_are_refused() {
        let symbols: Vec<char> = (0..=u8::MAX).filter_map(symbol).collect();
        assert_eq!(symbols.len(), 248);
        for character in ALPHABET {
            let count = symbols.iter().filter(|symbol| **symbol == char::from(*character)).count();
            assert_eq!(count, 4, "{}", char::from(*character));
        }
    }
}
