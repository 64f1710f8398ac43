//! Base62, the alphabet of tokens: only letters and digits, so that a double click selects a whole token.

/// The base62 digits in ASCII order. Part of the token format: never reorder them.
pub(crate) const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The largest multiple of 62 that a byte can hold. Bytes from here on are rejected.
const FAIR_BYTES: u8 = 248;

/// Maps one random byte to a base62 character, each equally likely. Returns `None` for a byte to be drawn again.
///
/// Rejection sampling: the eight bytes from 248 up have no character. Taken modulo 62, they would give the first eight
/// characters a probability of 5/256 each instead of 4/256.
pub(crate) fn symbol(random: u8) -> Option<char> {
    (random < FAIR_BYTES).then(|| char::from(digit(u32::from(random))))
}

/// Returns the last base62 digit of `number` as an ASCII character.
pub(crate) fn digit(number: u32) -> u8 {
    // A remainder modulo 62 is always a valid index.
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
    fn each_character_comes_from_four_bytes_and_eight_bytes_are_rejected() {
        let symbols: Vec<char> = (0..=u8::MAX).filter_map(symbol).collect();
        assert_eq!(symbols.len(), 248);
        for character in ALPHABET {
            let count = symbols.iter().filter(|symbol| **symbol == char::from(*character)).count();
            assert_eq!(count, 4, "{}", char::from(*character));
        }
    }
}
