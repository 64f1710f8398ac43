//! Rules for free text that people type.

use crate::rule::Rule;

/// Checks text that is shown in tables: at most `max` characters, none of which [`is_hidden`].
///
/// # Errors
/// The rule that `text` breaks.
pub(crate) fn check_text(text: &str, max: usize) -> Result<(), Rule> {
    if text.chars().count() > max || text.chars().any(is_hidden) {
        return Err(
            format!("at most {max} characters, without control characters and invisible format characters").into()
        );
    }
    Ok(())
}

/// Returns `true` for characters that could corrupt a terminal or a log line, reorder the text around them, or make two texts
/// that differ look equal:
///
/// - control characters (Unicode's Cc), and the line and paragraph separators (Zl, Zp);
/// - the characters with Unicode's property `Bidi_Control`;
/// - the other characters that Unicode displays as nothing: those with `Default_Ignorable_Code_Point`, and the marks of
///   interlinear annotations.
///
/// Three kinds of ignorable characters are allowed, because words and emoji are spelt with them: the joiners U+200C and U+200D,
/// and the variation selectors. Source: `DerivedCoreProperties.txt` and `PropList.txt` of Unicode 16.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e00ff}'
                | '\u{e01f0}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Bidi_Control` in `PropList.txt` of Unicode 16.
    const BIDI_CONTROL: &[(u32, u32)] = &[(0x61c, 0x61c), (0x200e, 0x200f), (0x202a, 0x202e), (0x2066, 0x2069)];

    /// The general category Cf (format) in `UnicodeData.txt` of Unicode 16.
    const FORMAT: &[(u32, u32)] = &[
        (0xad, 0xad),
        (0x600, 0x605),
        (0x61c, 0x61c),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x180e, 0x180e),
        (0x200b, 0x200f),
        (0x202a, 0x202e),
        (0x2060, 0x2064),
        (0x2066, 0x206f),
        (0xfeff, 0xfeff),
        (0xfff9, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0001, 0xe0001),
        (0xe0020, 0xe007f),
    ];

    /// Format characters with a visible form: signs that enclose or precede digits, the Syriac abbreviation mark, and the
    /// joiners of Egyptian hieroglyphs.
    const VISIBLE_FORMAT: &[(u32, u32)] = &[
        (0x600, 0x605),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
    ];

    /// `Default_Ignorable_Code_Point` in `DerivedCoreProperties.txt` of Unicode 16.
    const IGNORABLE: &[(u32, u32)] = &[
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x61c, 0x61c),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x202a, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff0, 0xfff8),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0000, 0xe0fff),
    ];

    /// The joiners, and `Variation_Selector` in `PropList.txt` of Unicode 16.
    const SPELT_WITH: &[(u32, u32)] =
        &[(0x180b, 0x180d), (0x180f, 0x180f), (0x200c, 0x200d), (0xfe00, 0xfe0f), (0xe0100, 0xe01ef)];

    fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
    }

    #[test]
    fn exactly_the_hidden_characters_of_unicode_are_refused() {
        for c in '\0'..=char::MAX {
            let format = is_in(FORMAT, c) && !is_in(VISIBLE_FORMAT, c);
            let ignorable = (format || is_in(IGNORABLE, c)) && !is_in(SPELT_WITH, c);
            let separator = matches!(c, '\u{2028}' | '\u{2029}');
            let expected = c.is_control() || separator || is_in(BIDI_CONTROL, c) || ignorable;
            assert_eq!(is_hidden(c), expected, "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn a_text_is_refused_for_one_hidden_character_and_accepted_as_words_are_spelt() {
        for hidden in ['\u{7f}', '\u{61c}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}'] {
            assert!(check_text(&format!("a{hidden}b"), 256).is_err(), "{hidden:?}");
        }
        // Persian with a zero width non-joiner, an emoji of several persons, a heart with a variation selector.
        for spelt in ["نمی\u{200c}خواهم", "👩\u{200d}👩\u{200d}👧", "❤\u{fe0f}", "größer", "日本語"]
        {
            assert!(check_text(spelt, 256).is_ok(), "{spelt}");
        }
        assert!(check_text(&"a".repeat(9), 8).is_err());
    }
}
