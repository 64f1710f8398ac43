//! Rules for free text that people type.

use crate::error::Error;

/// Checks text that is shown in tables: at most `max` characters, no control characters, so that it can neither break
/// a terminal nor a log line.
pub(crate) fn check_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.chars().count() > max || text.chars().any(breaks_a_line) {
        return Err(Error::field(field, format!("at most {max} characters and no control characters")));
    }
    Ok(())
}

/// Control characters, line separators, and those that turn the direction of what follows.
pub(crate) fn breaks_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
