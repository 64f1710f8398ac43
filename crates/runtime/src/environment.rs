//! Settings from environment variables. An empty variable is an absent one: Compose files and unit files set a variable to
//! nothing where a template has no value for it.

use std::ffi::OsString;

use clap::{Arg, Command, Parser};

/// Returns the value of a variable. `None` if it is not set, or empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Parses the command line and the environment. On a fault, prints it and ends the process, as [`Parser::parse`] does.
pub fn parse<T: Parser>() -> T {
    let matches = without_empty_variables(T::command()).get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|fault| fault.exit())
}

/// Returns the command without the variables that are empty, for itself and all of its subcommands.
#[must_use]
pub fn without_empty_variables(command: Command) -> Command {
    command.mut_args(without_empty_variable).mut_subcommands(without_empty_variables)
}

fn without_empty_variable(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None::<&str>) } else { arg }
}
