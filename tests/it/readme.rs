//! The commands of the README run as pasted.

use std::process::Command;

use keyward_tests::keyward::{Serve, workspace};
use keyward_tests::{parts, size};

/// Returns the walk-through, with this process's data directory and ports.
fn walk(serve: &Serve) -> String {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let walk = readme.split("```sh walk\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the walk");
    let mut script = walk.to_owned();
    for (documented, real) in [
        ("keyward-data", serve.data_dir().display().to_string()),
        ("127.0.0.1:8510", serve.admin.to_string()),
        ("127.0.0.1:8520", serve.validator.to_string()),
        ("127.0.0.1:8521", serve.hook.to_string()),
    ] {
        assert!(script.contains(documented), "the walk does not mention {documented}");
        script = script.replace(documented, &real);
    }
    script
}

#[test]
fn the_walk_through_runs_as_pasted() {
    let serve = Serve::start();
    let grpcurl = parts::grpcurl().parent().unwrap().display().to_string();
    let path = format!("{grpcurl}:{}", std::env::var("PATH").unwrap_or_default());
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", &walk(&serve)]).env("PATH", path).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    // The receipt of the deactivation is the last of three.
    let at = |text: &str| stdout.rfind(text).unwrap_or_else(|| panic!("no {text} in:\n{stdout}"));
    let order = [
        at("VERDICT_VALID"),
        at("200 OK"),
        at("x-keyward-key: server_prod"),
        at("\"enforcedBy\": \"ENFORCED_BY_ACKS\",\n    \"validatorsAcked\": 1"),
        at("VERDICT_DEACTIVATED"),
    ];
    assert!(order.is_sorted(), "{stdout}");
}

#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let section = readme.split("## Two commands").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let commands: Vec<_> = section.split("```sh\n").skip(1).filter_map(|b| b.split("\n```").next()).collect();
    assert_eq!(commands, ["cargo run", "cargo test --workspace"]);
    // CI runs the test command, and then the full proof.
    let ci = std::fs::read_to_string(workspace().join(".ci/run")).unwrap();
    let ci: Vec<_> = ci.lines().filter(|line| line.starts_with("cargo")).collect();
    assert_eq!(ci, ["cargo test --workspace", size::PROOF_COMMAND]);
}

/// Each reason of the contract has a row with its code, and there are no other rows.
#[test]
fn the_errors_page_lists_every_reason_with_its_code() {
    use keyward_domain::{Kind, Reason};
    let page = std::fs::read_to_string(workspace().join("docs/errors.md")).unwrap();
    let rows: std::collections::BTreeMap<_, _> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let mut cells = row.split(" | ");
            (cells.next().unwrap().trim_end_matches('`'), cells.next().unwrap())
        })
        .collect();
    let code = |kind| match kind {
        Kind::Unauthenticated => "UNAUTHENTICATED",
        Kind::PermissionDenied => "PERMISSION_DENIED",
        Kind::InvalidArgument => "INVALID_ARGUMENT",
        Kind::NotFound => "NOT_FOUND",
        Kind::AlreadyExists => "ALREADY_EXISTS",
        Kind::FailedPrecondition => "FAILED_PRECONDITION",
        Kind::Aborted => "ABORTED",
        Kind::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Kind::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::Internal => "INTERNAL",
    };
    let expected = Reason::ALL.iter().map(|reason| (reason.as_str(), code(reason.kind())));
    assert_eq!(rows, expected.collect());
}
