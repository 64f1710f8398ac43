//! Figures of a test run. Not printed with `println!`, which libtest captures.

use std::io::Write;

/// Prints a line to stderr, whether the test passes or not.
pub fn line(text: &str) {
    // A closed stderr must not fail the run.
    let _ = writeln!(std::io::stderr(), "{text}");
}
