use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Prints a shell's completions: `keyward completions bash > /etc/bash_completion.d/keyward`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run<C: CommandFactory>(&self) {
        clap_complete::generate(self.shell, &mut C::command(), "keyward", &mut std::io::stdout().lock());
    }
}
