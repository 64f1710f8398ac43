//! What only the full proof runs, beside the one list of it.

use std::collections::BTreeSet;

use keyward_tests::size::ONLY_IN_THE_PROOF;

use crate::source::files;

/// What gates an item by the feature. Spelt in pieces, so that this file has no gate in it.
const GATE: &str = concat!("#[cfg(feature = ", "\"proof\")]");
const FEATURE: &str = concat!("feature = ", "\"proof\"");

/// The tests and modules behind a gate, as `path: name`.
fn gated(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == GATE) {
        let (attributes, item): (Vec<&str>, Vec<&str>) =
            lines[at..].iter().take(10).partition(|line| line.starts_with("#["));
        let is_test = attributes.iter().any(|line| line.contains("test]") || line.contains("test("));
        let item = item[0].trim_start_matches("async ");
        let name = item.strip_prefix("mod ").or_else(|| item.strip_prefix("fn ").filter(|_| is_test));
        // A helper of a gated test is no test.
        let end = |c: char| !c.is_alphanumeric() && c != '_';
        found.extend(name.and_then(|name| name.split(end).next()).map(|name| format!("{path}: {name}")));
    }
    found
}

/// The targets of the tests' manifest that need the feature.
fn gated_targets(manifest: &str) -> Vec<String> {
    let targets = manifest.split("[[").filter(|target| target.contains("required-features = [\"proof\"]"));
    let names = targets.filter_map(|target| target.split("name = \"").nth(1)?.split('"').next());
    names.map(|name| format!("Cargo.toml: {name}")).collect()
}

#[test]
fn the_list_of_what_only_the_proof_runs_is_the_sources() {
    let (mut found, mut odd) = (BTreeSet::new(), Vec::new());
    for (path, text) in files() {
        let path = path.strip_prefix("tests").unwrap_or(&path).to_string_lossy().into_owned();
        if path == "Cargo.toml" {
            found.extend(gated_targets(&text));
        } else if path.ends_with(".rs") {
            found.extend(gated(&path, &text));
            let others = text.lines().filter(|line| line.contains(FEATURE) && line.trim() != GATE);
            odd.extend(others.map(|line| format!("{path}: {line}")));
        }
    }
    assert_eq!(odd, [format!("src/size.rs: pub const PROOF: bool = cfg!({FEATURE});")], "gates that are not counted");
    let listed: BTreeSet<_> = ONLY_IN_THE_PROOF.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    let superfluous: Vec<_> = listed.difference(&found).collect();
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "size::ONLY_IN_THE_PROOF lacks {missing:#?} and has {superfluous:#?} too many"
    );
}
