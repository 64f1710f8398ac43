//! What may not stand in a file of this repository.

use std::path::PathBuf;
use std::process::Command;

use keyward_tests::keyward::workspace;

/// Every text file that git knows, with its content.
fn files() -> Vec<(PathBuf, String)> {
    let all = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(all).current_dir(workspace()).output().unwrap();
    assert!(listed.status.success(), "git does not list the files");
    let names = String::from_utf8(listed.stdout).unwrap();
    let paths = names.lines().map(|name| workspace().join(name));
    let files: Vec<_> = paths.filter_map(|p| std::fs::read_to_string(&p).ok().map(|text| (p, text))).collect();
    assert!(files.len() > 50);
    files
}

/// Every line that a rule finds fault with.
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
fn nothing_is_left_open_and_no_test_is_switched_off() {
    // Spelt in pieces, so that this file passes its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore"), concat!("should_", "panic")];
    let found = faults(|line| words.iter().any(|word| line.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_holds_what_looks_like_a_live_token() {
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
fn lines_end_without_spaces() {
    let found: Vec<_> =
        faults(|line| line.ends_with([' ', '\t'])).into_iter().filter(|f| !f.contains("LICENSE:")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// `println!` and its kin panic when nothing takes what they print: a full disk or a closed pipe would end the process.
/// `telemetry::note` and `output::line` do not.
#[test]
fn nothing_that_ships_prints_by_a_macro_that_panics() {
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
