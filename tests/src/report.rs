//! Figures that a run prints. Not by `println!`, which libtest swallows.

use std::io::Write;

/// Prints a line to stderr, whether the test passes or not.
pub fn line(text: &str) {
    // A run without a stderr loses its figures and nothing else.
    let _ = writeln!(std::io::stderr(), "{text}");
}
