//! Rules for the text of all files.

use std::path::PathBuf;
use std::process::Command;

use keyward_tests::keyward::workspace;

/// Returns every text file that git tracks or would track, with its content.
pub(crate) fn files() -> Vec<(PathBuf, String)> {
    let all = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(all).current_dir(workspace()).output().unwrap();
    assert!(listed.status.success(), "git does not list the files");
    let names = String::from_utf8(listed.stdout).unwrap();
    let paths = names.lines().map(|name| workspace().join(name));
    let files: Vec<_> = paths.filter_map(|p| std::fs::read_to_string(&p).ok().map(|text| (p, text))).collect();
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

#[test]
fn no_line_ends_with_spaces() {
    let found: Vec<_> =
        faults(|line| line.ends_with([' ', '\t'])).into_iter().filter(|f| !f.contains("LICENSE:")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// `println!` and similar macros panic on a full disk or a closed pipe, and would end the process. `telemetry::note`
/// and `output::line` do not panic.
#[test]
fn no_shipped_code_prints_with_a_macro_that_can_panic() {
    let mut found = Vec::new();
    let sources = files().into_iter().filter(|(path, _)| {
        let path = path.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned();
        path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs")
    });
    for (path, text) in sources {
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        let macros = ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("];
        for line in shipped.lines().filter(|line| macros.iter().any(|word| line.contains(word))) {
            found.push(format!("{}: {line}", path.display()));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
