//! Rules for free text that people type.

use crate::error::Error;

/// Checks text that is shown in tables: at most `max` characters, no control characters, so that it can neither break
/// a terminal nor a log line.
pub(crate) fn check_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.chars().count() > max || text.chars().any(char::is_control) {
        return Err(Error::field(field, format!("at most {max} characters and no control characters")));
    }
    Ok(())
}
