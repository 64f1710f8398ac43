//! No file of a crate may depend on itself through others.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::files;

/// A module's path within its crate, such as `["admin", "node"]`; empty for the root.
type Module = Vec<String>;

/// The modules of one crate, with the code of their files: without comments and without unit tests.
struct Crate(BTreeMap<Module, String>);

/// Every crate with its modules.
fn crates() -> BTreeMap<String, Crate> {
    let mut crates: BTreeMap<String, Crate> = BTreeMap::new();
    for (path, text) in files() {
        let path = path.to_string_lossy().into_owned();
        let Some((name, file)) = path.strip_prefix("crates/").and_then(|path| path.split_once("/src/")) else {
            continue;
        };
        let Some(file) = file.strip_suffix(".rs").filter(|file| !file.ends_with("tests")) else { continue };
        let mut module: Module = file.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
            module.pop();
        }
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = shipped.lines().map(|line| line.split("//").next().unwrap_or_default());
        crates
            .entry(name.to_owned())
            .or_insert_with(|| Crate(BTreeMap::new()))
            .0
            .insert(module, code.collect::<Vec<_>>().join("\n"));
    }
    crates
}

/// The paths that a `use` item imports, as lists of segments: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn expand(prefix: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let parts = tree.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let (head, rest) = part.split_once('{').map_or((part, None), |(head, rest)| (head, rest.strip_suffix('}')));
        let head = head.split(" as ").next().unwrap_or_default();
        let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned);
        let path: Vec<String> = prefix.iter().cloned().chain(segments).collect();
        match rest {
            Some(rest) => expand(&path, rest, paths),
            None => paths.push(path),
        }
    }
}

impl Crate {
    /// The paths that a file names: those of its `use` items, and those that begin with `crate::` or `super::` elsewhere.
    fn named(code: &str) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for item in code.split("use ").skip(1) {
            expand(&[], item.split(';').next().unwrap_or_default(), &mut paths);
        }
        for start in ["crate::", "super::"] {
            for (at, _) in code.match_indices(start) {
                let path = code[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next();
                paths.push(path.unwrap_or_default().split("::").map(str::to_owned).collect());
            }
        }
        paths
    }

    /// The module that a path leads to, through re-exports of other modules.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let absolute: Module = match path.split_first()? {
            (first, rest) if first == "crate" => rest.to_vec(),
            (first, _) if first == "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                let base = from.len().checked_sub(up)?;
                from[..base].iter().chain(&path[up..]).cloned().collect()
            }
            (first, rest) if first == "self" => from.iter().chain(rest).cloned().collect(),
            (first, _) => {
                let child: Module = from.iter().chain([first]).cloned().collect();
                self.0.contains_key(&child).then(|| from.iter().chain(path).cloned().collect())?
            }
        };
        let known = (0..=absolute.len()).rev().find(|n| self.0.contains_key(&absolute[..*n]))?;
        let (module, rest) = absolute.split_at(known);
        let Some(name) = rest.first() else { return Some(module.to_vec()) };
        // The name may be one that the module re-exports.
        let mut exports = Vec::new();
        for item in self.0[module].split("pub").skip(1).filter_map(|item| item.split_once("use ")) {
            if item.0.len() < 20 {
                expand(&[], item.1.split(';').next().unwrap_or_default(), &mut exports);
            }
        }
        let export = exports.iter().find(|export| export.last() == Some(name) && export.len() > 1);
        let through = export.and_then(|export| self.resolve(&module.to_vec(), &export[..export.len() - 1]));
        Some(through.unwrap_or_else(|| module.to_vec()))
    }

    /// For each module, the modules that it names. A module that only declares and re-exports others names none.
    fn edges(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut edges = BTreeMap::new();
        for (module, code) in &self.0 {
            let has_items =
                ["fn ", "struct ", "enum ", "trait ", "impl ", "const "].iter().any(|item| code.contains(item));
            let named = Self::named(code).into_iter().filter_map(|path| self.resolve(module, &path));
            let named = named.filter(|other| other != module && has_items).collect();
            edges.insert(module.clone(), named);
        }
        edges
    }
}

/// The modules that can be reached from `start`.
fn reachable(edges: &BTreeMap<Module, BTreeSet<Module>>, start: &Module) -> BTreeSet<Module> {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![start]);
    while let Some(module) = waiting.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                waiting.push(next);
            }
        }
    }
    seen
}

#[test]
fn no_file_of_a_crate_depends_on_itself_through_others() {
    let mut circles = Vec::new();
    let mut count = 0;
    for (name, modules) in crates() {
        let edges = modules.edges();
        count += edges.values().map(BTreeSet::len).sum::<usize>();
        let own = edges.keys().filter(|module| reachable(&edges, module).contains(*module));
        circles.extend(own.map(|module| format!("{name}: {}", module.join("/"))));
    }
    assert!(count > 500, "the files were not read: {count} edges");
    assert!(circles.is_empty(), "files in circles: {circles:#?}");
}
