//! Rules for free text that people type.

use crate::rule::Rule;

/// Checks text that is shown in tables: at most `max` characters and no control characters, which could corrupt a terminal or
/// a log line.
///
/// # Errors
/// The rule that `text` breaks.
pub(crate) fn check_text(text: &str, max: usize) -> Result<(), Rule> {
    if text.chars().count() > max || text.chars().any(is_control) {
        return Err(format!("at most {max} characters and no control characters").into());
    }
    Ok(())
}

/// Returns `true` for control characters, line separators, and marks that change the direction of the text after them.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
