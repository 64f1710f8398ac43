//! Secrets that a command needs: from a file or from stdin, never from the command line.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::Context;
use keyward_runtime::secret_file::{self, Holds};
use zeroize::Zeroizing;

/// No token is nearly so long.
const LONGEST_LINE: u64 = 1_024;

/// The first line of `file`, or of stdin; what is typed on a terminal is not shown.
pub(super) fn secret(what: &str, file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let line = match file {
        Some(file) => {
            // A token that was found may be in a file with any owner and mode.
            let text = secret_file::read_logged(file, Holds::Settings)?;
            first_line(text.as_bytes())?
        }
        None if std::io::stdin().is_terminal() => {
            Zeroizing::new(rpassword::prompt_password(format!("{what} (not shown): ")).context("no answer")?)
        }
        None => first_line(std::io::stdin().lock())?,
    };
    Ok(Zeroizing::new(line.trim().to_owned()))
}

fn first_line(from: impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    from.take(LONGEST_LINE).read_line(&mut line)?;
    Ok(line)
}
