//! What other tools check.

use std::process::Command;

use keyward_tests::keyward::workspace;
use keyward_tests::parts;

/// Runs a command in the workspace's root.
///
/// # Panics
/// When it finds fault; with what it says.
fn passes(command: &mut Command) {
    let output = command.current_dir(workspace()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", said(&output.stdout), said(&output.stderr));
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[test]
fn the_code_is_formatted() {
    passes(cargo().args(["fmt", "--all", "--check"]));
}

#[test]
fn clippy_finds_nothing() {
    passes(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]));
}

#[test]
fn the_protos_are_clean() {
    passes(Command::new(parts::buf()).arg("lint"));
}
