use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::output::line;

/// Prints the completion script of a shell: `keyward completions bash > /etc/bash_completion.d/keyward`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run<C: CommandFactory>(&self) -> anyhow::Result<()> {
        // Into memory first: clap_complete panics if stdout is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), "keyward", &mut script);
        line(String::from_utf8_lossy(&script).trim_end())
    }
}
