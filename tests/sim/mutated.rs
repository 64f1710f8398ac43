//! A copy of the sources that contains every code mutant. An environment variable chooses one at run time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use keyward_tests::keyward::{cargo, workspace};
use serde_json::Value;

use crate::mutants::CODE_MUTANTS;

/// The environment variable that names the chosen mutant.
pub(crate) const CHOICE: &str = "KEYWARD_MUTANT";

/// Entries of the workspace's root that are not copied: they are no sources, or are written anew.
const LEFT_OUT: [&str; 4] = ["target", ".git", "Cargo.toml", "Cargo.lock"];

/// The directory of the copy in its own workspace. It must differ from the originals': cargo identifies crates by their
/// path in the workspace, and would replace the compiled originals by the copies.
const SUBDIRECTORY: &str = "mutated";

/// The crate that every other one may name, and the function that is appended to it.
const HOOK_FILE: &str = "crates/domain/src/lib.rs";
const HOOK: &str = r#"
/// Returns `true` if this mutant is chosen.
pub fn is_mutant(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("KEYWARD_MUTANT").ok());
    CHOSEN.as_deref() == Some(name)
}
"#;

/// Builds this test from the mutated sources. Returns the program's path. Third-party crates are not compiled again.
pub(crate) fn build() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    // target/debug/deps/sim-…
    let profile = program.ancestors().nth(2).unwrap();
    let target = profile.parent().unwrap();
    let tree = target.join("mutants").join("tree");
    copy(&workspace(), &tree.join(SUBDIRECTORY), &mutated(), Path::new(""));
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    put(&tree.join("Cargo.toml"), moved(&manifest).as_bytes());
    put(&tree.join("Cargo.lock"), &std::fs::read(workspace().join("Cargo.lock")).unwrap());
    let mut build = cargo();
    build.args(["test", "--no-run", "--package=keyward-tests", "--test=sim", "--offline", "--locked", "--quiet"]);
    build.arg("--message-format=json").arg("--target-dir").arg(target).current_dir(&tree);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let output = build.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs: Vec<_> =
        built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).filter(|p| p.exists()).collect();
    match (output.status.success(), &programs[..]) {
        (true, [program]) => program.clone(),
        _ => panic!("mutated sources do not build: {}\n{text}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Returns the text of every file that mutants change.
fn mutated() -> HashMap<PathBuf, String> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let read = |file: &str| std::fs::read_to_string(workspace().join(file)).unwrap();
    for mutant in CODE_MUTANTS {
        let chosen = format!("keyward_domain::is_mutant(\"{}\")", mutant.name);
        for edit in mutant.edits {
            let text = files.entry(edit.file).or_insert_with(|| read(edit.file));
            let found = text.matches(edit.from).count();
            assert_eq!(found, 1, "{} is {found} times in {}, for {}", edit.from, edit.file, mutant.name);
            *text = text.replace(edit.from, &edit.to.replace("MUTANT", &chosen));
        }
    }
    files.insert(HOOK_FILE, read(HOOK_FILE) + HOOK);
    files.into_iter().map(|(file, text)| (PathBuf::from(file), text)).collect()
}

/// Returns the workspace's manifest with the members' new paths, and without debug information, which takes long to
/// generate. The profiles of third-party crates stay the same, so they are not compiled again.
fn moved(manifest: &str) -> String {
    let mut moved = manifest.replace("\"crates/", &format!("\"{SUBDIRECTORY}/crates/"));
    for member in ["tests", "tests/model"] {
        moved = moved.replace(&format!("\"{member}\""), &format!("\"{SUBDIRECTORY}/{member}\""));
    }
    let crates =
        ["admin", "domain", "proto", "protocol", "replica", "runtime", "store", "sync", "tests", "token", "validator"];
    for name in crates {
        // Some crates have a line in the profile already, and a key must not be there twice.
        let line = format!("keyward-{name} = {{ opt-level");
        if moved.contains(&line) {
            moved = moved.replace(&line, &format!("keyward-{name} = {{ debug = false, opt-level"));
        } else {
            moved.push_str(&format!("\n[profile.dev.package.keyward-{name}]\ndebug = false\n"));
        }
    }
    moved
}

/// Writes a file unless it has that content already, so that cargo need not compile it again.
fn put(path: &Path, content: &[u8]) {
    if std::fs::read(path).ok().as_deref() != Some(content) {
        std::fs::write(path, content).unwrap();
    }
}

/// Copies a directory, with the mutated files replaced. Removes files that the original no longer has.
fn copy(from: &Path, to: &Path, mutated: &HashMap<PathBuf, String>, below: &Path) {
    let directory = from.join(below);
    std::fs::create_dir_all(to.join(below)).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), below.join(entry.file_name()));
        let left_out = below.as_os_str().is_empty() && LEFT_OUT.iter().any(|left_out| name == *left_out);
        let kind = entry.file_type().unwrap();
        if left_out || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            copy(from, to, mutated, &path);
        } else {
            let content = mutated.get(&path).map_or_else(|| std::fs::read(entry.path()).unwrap(), |t| t.clone().into());
            put(&to.join(&path), &content);
        }
        names.push(name);
    }
    for entry in std::fs::read_dir(to.join(below)).unwrap() {
        let entry = entry.unwrap();
        if !names.contains(&entry.file_name()) {
            let gone = entry.path();
            if gone.is_dir() { std::fs::remove_dir_all(gone) } else { std::fs::remove_file(gone) }.unwrap();
        }
    }
}
