//! Rules for the text of all files.

use std::path::PathBuf;
use std::process::Command;

use keyward_tests::keyward::workspace;

/// Every text file that git knows or would add, with its path from the root and its content.
pub(crate) fn files() -> Vec<(PathBuf, String)> {
    let all = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(all).current_dir(workspace()).output().unwrap();
    assert!(listed.status.success(), "git does not list the files");
    let names = String::from_utf8(listed.stdout).unwrap();
    let paths = names.lines().map(PathBuf::from);
    let read = |path: PathBuf| std::fs::read_to_string(workspace().join(&path)).ok().map(|text| (path, text));
    let files: Vec<_> = paths.filter_map(read).collect();
    assert!(files.len() > 50);
    files
}

/// Returns every line that violates a rule.
fn faults(rule: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| rule(line)) {
            found.push(format!("{}:{}: {line}", path.display(), number + 1));
        }
    }
    found
}

#[test]
fn no_open_task_markers_and_no_disabled_tests() {
    // Split, so that this file passes its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore"), concat!("should_", "panic")];
    let found = faults(|line| words.iter().any(|word| line.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_contains_a_text_that_looks_like_a_live_token() {
    let looks_live = |line: &str| {
        ["kw_", "kwc_", "kwm_"].iter().any(|prefix| {
            line.match_indices(prefix).any(|(at, _)| {
                let rest = &line.as_bytes()[at + prefix.len()..];
                rest.iter().take_while(|b| b.is_ascii_alphanumeric()).count() >= 40
            })
        })
    };
    let found = faults(looks_live);
    assert!(found.is_empty(), "{found:#?}");
}

/// `build.rs` makes `Debug` leave out what has the option `debug_redact`.
#[test]
fn every_field_for_a_token_or_a_credential_is_redacted_in_debug() {
    const PUBLIC: [&str; 3] = ["page_token", "next_page_token", "masked_token"];
    let name = |line: &str| line.trim().strip_prefix("string ")?.split(' ').next().map(str::to_owned);
    let is_secret =
        |name: &String| (name.ends_with("token") || name.ends_with("credential")) && !PUBLIC.contains(&name.as_str());
    let fields: Vec<_> = files()
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "proto"))
        .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| name(line).as_ref().is_some_and(is_secret))
        .collect();
    assert!(fields.len() >= 9, "the fields were not found: {fields:?}");
    let found: Vec<_> = fields.iter().filter(|line| !line.contains("[debug_redact = true]")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_line_ends_with_spaces() {
    let found: Vec<_> =
        faults(|line| line.ends_with([' ', '\t'])).into_iter().filter(|f| !f.starts_with("LICENSE:")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The code that ships of each source file of the crates: everything before its unit tests.
fn shipped() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter_map(|(path, text)| {
        let path = path.to_string_lossy().into_owned();
        let is_source = path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs");
        is_source.then(|| (path, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()))
    })
}

/// `println!` and similar macros panic on a full disk or a closed pipe, and would end the process. `telemetry::note`
/// and `output::line` do not panic.
#[test]
fn no_shipped_code_prints_with_a_macro_that_can_panic() {
    let mut found = Vec::new();
    for (path, text) in shipped() {
        let macros = ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("];
        for line in text.lines().filter(|line| macros.iter().any(|word| line.contains(word))) {
            found.push(format!("{path}: {line}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// `runtime::status` turns a `domain::Error` into a gRPC status with its reason (google.rpc.ErrorInfo). A status made by hand has
/// none.
#[test]
fn only_the_runtime_makes_grpc_statuses() {
    const ALLOWED: [&str; 3] = [
        "crates/runtime/src/status.rs",
        // The layer for Rust services answers the service's own callers, and those are not Keyward's.
        "crates/client/src/",
        // The CLI has one type for errors of a call, and reports with it also what it could not call. No status leaves it.
        "crates/keyward/src/cli/",
    ];
    assert!(makes_a_status("Err(Status::unavailable(text))") && !makes_a_status("Status::from_header_map(headers)"));
    let mut found = Vec::new();
    for (path, text) in shipped().filter(|(path, _)| !ALLOWED.iter().any(|allowed| path.starts_with(allowed))) {
        for line in text.lines().filter(|line| makes_a_status(line)) {
            found.push(format!("{path}: {line}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Returns `true` for a line of code that calls a constructor of tonic's `Status`. Those that parse one, such as
/// `from_header_map`, are none.
fn makes_a_status(line: &str) -> bool {
    const CODES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("Status::").any(|(at, found)| {
        let name = code[at + found.len()..].split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next();
        name.is_some_and(|name| name == "new" || name.starts_with("with_") || CODES.contains(&name))
    })
}
