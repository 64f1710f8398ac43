//! What commands ask for: secrets, from a file or from stdin and never from the command line, and confirmations.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use keyward_runtime::secret_file::{self, Holds};
use zeroize::Zeroizing;

/// Far more than the longest token, in bytes.
const LONGEST_LINE: u64 = 1_024;

/// Reads the first line of `file`, or of stdin. Input on a terminal is not echoed. `what` names the secret in the prompt.
pub(super) fn secret(what: &str, file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let line = match file {
        Some(file) => {
            // A leaked token may be in a file with any owner and mode.
            let text = secret_file::read_logged(file, Holds::Settings)?;
            first_line(text.as_bytes())?
        }
        None if std::io::stdin().is_terminal() => Zeroizing::new(
            rpassword::prompt_password(format!("{what} (not shown): ")).context("cannot read from the terminal")?,
        ),
        None => first_line(std::io::stdin().lock())?,
    };
    Ok(Zeroizing::new(line.trim().to_owned()))
}

/// Asks a question on the terminal. Returns `true` if the answer is `y` or `yes`.
///
/// Returns `true` without a question if stdin or stderr is not a terminal: a script has decided already.
pub(super) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    write!(std::io::stderr(), "{question} [y/N] ").context("cannot write to the terminal")?;
    let answer = first_line(std::io::stdin().lock())?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn first_line(from: impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    from.take(LONGEST_LINE).read_line(&mut line)?;
    Ok(line)
}
