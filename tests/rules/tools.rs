//! Checks by other tools.

use std::process::Command;

use keyward_tests::keyward::workspace;
use keyward_tests::parts;

/// Runs a command in the workspace's root.
///
/// # Panics
/// If it fails. The message contains its output.
fn passes(command: &mut Command) {
    let output = command.current_dir(workspace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
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
    let deny = ["--all-targets", "--quiet", "--", "-D", "warnings"];
    passes(cargo().args(["clippy", "--workspace", "--features", "keyward-tests/proof,keyward-model/proof"]).args(deny));
    // Without the feature some of the code of the tests is not compiled, and must not leave anything unused behind.
    passes(cargo().args(["clippy", "--package", "keyward-tests", "--package", "keyward-model"]).args(deny));
}

#[test]
fn buf_lint_accepts_the_protos() {
    passes(Command::new(parts::buf()).arg("lint"));
}

/// A clock that tests can pause is a feature of the tests' dependency tree. Shipped programs must not have it.
#[test]
fn no_shipped_program_has_tokios_pausable_clock() {
    let features_of_tokio = |arguments: &[&str]| {
        let mut tree = cargo();
        tree.args(["tree", "--locked", "--prefix=none", "--format={p} {f}"]).args(arguments);
        let output = tree.current_dir(workspace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("tokio v"));
        let found: Vec<_> = lines.map(str::to_owned).collect();
        assert!(!found.is_empty(), "{arguments:?}: no tokio in the tree");
        found
    };
    let can_be_stopped = |line: &String| line.contains("test-util");
    for shipped in ["keyward", "keyward-validator"] {
        let found = features_of_tokio(&["--edges=no-dev", "--package", shipped]);
        assert!(!found.iter().any(can_be_stopped), "{shipped}: {found:#?}");
    }
    // The check is effective: in the tests' tree, it finds the feature.
    assert!(features_of_tokio(&["--package=keyward-tests"]).iter().any(can_be_stopped));
}
