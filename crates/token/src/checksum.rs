//! The checksum at the end of a token. It detects mistyped, truncated and invented tokens without a key or a lookup.

use crate::base62;
use crate::format::CHECKSUM_CHARS;

/// Returns the CRC-32 (IEEE 802.3, as in zlib) of `covered` in base62: six characters, most significant first, padded
/// with `0`.
///
/// 62^6 is more than 2^32, so six characters hold every checksum. Codes above 2^32 - 1 are never valid.
pub(crate) fn checksum(covered: &[u8]) -> [u8; CHECKSUM_CHARS] {
    encode(crc32fast::hash(covered))
}

fn encode(mut number: u32) -> [u8; CHECKSUM_CHARS] {
    let mut text = [b'0'; CHECKSUM_CHARS];
    for place in text.iter_mut().rev() {
        *place = base62::digit(number);
        number /= 62;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors computed with Python's zlib.
    #[test]
    fn checksums_are_six_characters_most_significant_first() {
        assert_eq!(&encode(0), b"000000");
        assert_eq!(&encode(61), b"00000z");
        assert_eq!(&encode(62), b"000010");
        assert_eq!(&encode(u32::MAX), b"4gfFC3");
    }

    /// 0xCBF43926 is the check value of CRC-32/ISO-HDLC for "123456789" in CRC catalogues.
    #[test]
    fn checksum_is_the_common_crc_32() {
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
    }
}
