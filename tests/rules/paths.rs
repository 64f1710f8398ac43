//! Paths that comments and Markdown links refer to must exist in the repository.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::source::files;

/// Folders at the root of the repository, or of places outside of it that comments must not refer to.
const ROOTS: [&str; 9] =
    ["crates/", "deploy/", "docs/", "examples/", "proto/", "reference/", "shared/", "tests/", "tools/"];

/// The paths of all files and folders of the repository, relative to its root.
struct Tree(BTreeSet<String>);

impl Tree {
    fn read() -> Self {
        let mut paths = BTreeSet::new();
        for (path, _) in files() {
            for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
                paths.insert(part.to_string_lossy().into_owned());
            }
        }
        Self(paths)
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains(path.to_string_lossy().trim_end_matches('/'))
    }

    /// Returns `true` if a path in a comment of `file` exists: from the root, from the folder of `file`, or as the end of
    /// another path, such as `sync/fence.rs`.
    fn knows(&self, file: &Path, path: &str) -> bool {
        let end = format!("/{}", path.trim_end_matches('/'));
        self.has(Path::new(path)) || self.has(&beside(file, path)) || self.0.iter().any(|known| known.ends_with(&end))
    }
}

/// Resolves a path against the folder of a file.
fn beside(file: &Path, path: &str) -> PathBuf {
    let mut resolved = file.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(name) => resolved.push(name),
            _ => {}
        }
    }
    resolved
}

/// The comment of a line, if it has one.
fn comment<'a>(file: &Path, line: &'a str) -> Option<&'a str> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("rs" | "proto" | "c" | "go" | "js") => {
            let start = line.find("//").filter(|at| !line[..*at].ends_with(':'))?;
            Some(&line[start + 2..])
        }
        Some("md" | "lock" | "json") => None,
        _ => line.trim_start().strip_prefix('#'),
    }
}

/// The words of a comment that look like paths of this repository.
fn paths(comment: &str) -> impl Iterator<Item = &str> {
    let words = comment.split_whitespace().filter(|word| !word.contains("://"));
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let pieces = words.flat_map(move |word| word.split(move |c| !of_a_path(c)));
    pieces.map(|piece| piece.trim_end_matches('.')).filter(|piece| {
        let is_file = [".md", ".rs"].iter().any(|end| piece.strip_suffix(end).is_some_and(|stem| !stem.is_empty()));
        is_file || ROOTS.iter().any(|root| piece.starts_with(root))
    })
}

#[test]
fn comments_refer_only_to_files_of_the_repository() {
    let tree = Tree::read();
    let mut found = Vec::new();
    for (file, text) in files() {
        for (number, line) in text.lines().enumerate() {
            let mentioned = comment(&file, line).into_iter().flat_map(paths);
            for path in mentioned.filter(|path| !tree.knows(&file, path)) {
                found.push(format!("{}:{}: {path}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn links_of_pages_lead_to_files_of_the_repository() {
    let tree = Tree::read();
    let mut found = Vec::new();
    let pages = files().into_iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "md"));
    for (page, text) in pages {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ', '\n']).next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !tree.has(&beside(&page, target)) {
                found.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn paths_in_comments_are_found_and_looked_up() {
    let found = |line: &'static str| comment(Path::new("a.rs"), line).map(|text| paths(text).collect::<Vec<_>>());
    assert_eq!(found("/// See `docs/errors.md`, and (tests/it/…)."), Some(vec!["docs/errors.md", "tests/it/"]));
    assert_eq!(found("let x = 1; // as in fence.rs."), Some(vec!["fence.rs"]));
    assert_eq!(found("let url = \"http://a/docs/b.md\";"), None);
    let tree = Tree::read();
    assert!(tree.knows(Path::new("crates/domain/src/id.rs"), "docs/errors.md"));
    for missing in ["DESIGN.md", "reference/protocol.md", "docs/nonesuch.md", "tests/nonesuch/"] {
        assert!(!tree.knows(Path::new("crates/domain/src/id.rs"), missing), "{missing}");
    }
    assert_eq!(found("// https://example.com/docs/b.md and `<method>.rs`"), Some(vec![]));
}
