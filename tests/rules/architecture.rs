//! The allowed dependencies between crates. A new dependency is a design decision, and needs a change of this table.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use keyward_tests::keyward::workspace;

/// Each crate, with the Keyward crates that it may depend on.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("keyward-token", &[]),
    ("keyward-proto", &[]),
    ("keyward-domain", &["keyward-token"]),
    ("keyward-protocol", &["keyward-domain"]),
    ("keyward-store", &["keyward-domain", "keyward-protocol", "keyward-token"]),
    ("keyward-replica", &["keyward-domain", "keyward-protocol", "keyward-token"]),
    ("keyward-runtime", &["keyward-domain", "keyward-proto"]),
    ("keyward-sync", &["keyward-domain", "keyward-proto", "keyward-protocol", "keyward-replica", "keyward-token"]),
    ("keyward-client", &["keyward-domain", "keyward-proto", "keyward-replica", "keyward-sync"]),
    (
        "keyward-admin",
        &[
            "keyward-domain",
            "keyward-proto",
            "keyward-protocol",
            "keyward-replica",
            "keyward-runtime",
            "keyward-store",
            "keyward-sync",
            "keyward-token",
        ],
    ),
    (
        "keyward-validator",
        &["keyward-domain", "keyward-proto", "keyward-replica", "keyward-runtime", "keyward-sync", "keyward-token"],
    ),
    ("keyward", &["keyward-admin", "keyward-proto", "keyward-runtime", "keyward-token", "keyward-validator"]),
];

/// The packages of tests. They may depend on every crate, and no crate may depend on them.
const TESTS: [&str; 2] = ["keyward-model", "keyward-tests"];

fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(workspace()).exec().unwrap()
}

#[test]
fn crates_depend_only_on_the_crates_in_the_table() {
    let metadata = metadata();
    let allowed: BTreeMap<_, BTreeSet<_>> =
        MAY_DEPEND_ON.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    for package in metadata.workspace_packages() {
        if TESTS.contains(&package.name.as_str()) {
            continue;
        }
        let may = allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} is not in the table", package.name));
        for dependency in package.dependencies.iter().filter(|d| d.name.starts_with("keyward")) {
            assert!(may.contains(dependency.name.as_str()), "{} must not depend on {}", package.name, dependency.name);
        }
    }
}

#[test]
fn only_the_store_depends_on_sea_orm_and_pure_crates_do_not_depend_on_tonic() {
    for package in metadata().workspace_packages() {
        let names = |prefix: &str| package.dependencies.iter().any(|d| d.name.starts_with(prefix));
        assert_eq!(names("sea-orm"), package.name.as_str() == "keyward-store", "{}", package.name);
        let pure = ["keyward-token", "keyward-domain", "keyward-protocol", "keyward-store", "keyward-replica"];
        assert!(
            !(pure.contains(&package.name.as_str()) && names("tonic")),
            "{} must not depend on tonic",
            package.name
        );
    }
}

/// The names of all packages in the dependency tree of a package, without build and dev dependencies.
fn dependency_tree(package: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let nodes: BTreeMap<_, _> = metadata.resolve.iter().flat_map(|r| &r.nodes).map(|node| (&node.id, node)).collect();
    let name = |id: &PackageId| metadata.packages.iter().find(|p| p.id == *id).map_or("", |p| p.name.as_str());
    let mut waiting: Vec<_> = nodes.keys().copied().filter(|id| name(id) == package).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(name(id).to_owned()) {
            let linked = |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            waiting.extend(nodes[id].deps.iter().filter(|d| linked(&d.dep_kinds)).map(|d| &d.pkg));
        }
    }
    seen
}

#[test]
fn the_validator_has_no_database_in_its_dependency_tree() {
    let tree = dependency_tree("keyward-validator");
    assert!(tree.len() > 50, "the tree was not walked: {tree:?}");
    for database in ["keyward-store", "sea-orm", "sqlx", "sqlx-core", "libsqlite3-sys"] {
        assert!(!tree.contains(database), "{database}");
    }
}

#[test]
fn the_protocol_has_no_transport_no_runtime_and_no_database_in_its_dependency_tree() {
    let tree = dependency_tree("keyward-protocol");
    assert!(tree.contains("keyward-domain"), "the tree was not walked: {tree:?}");
    for forbidden in ["tonic", "hyper", "tokio", "sea-orm", "sqlx", "rustix"] {
        assert!(!tree.contains(forbidden), "{forbidden}");
    }
}

/// Seams for simulations stay out of shipped binaries. The features of the resolved workspace do not show that, because one
/// build of the workspace unifies them with those of the tests; the dependency edges of each shipped package do.
#[test]
fn nothing_that_is_shipped_enables_the_seams_of_simulations() {
    const SEAM: &str = "simulation";
    let metadata = metadata();
    let packages: BTreeMap<_, _> = metadata.workspace_packages().into_iter().map(|p| (p.name.as_str(), p)).collect();
    let enabled_by = |name: &str| -> Vec<String> {
        let linked = packages[name].dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        linked.filter(|d| d.features.iter().any(|f| f == SEAM)).map(|d| d.name.clone()).collect()
    };
    let mut waiting = vec!["keyward", "keyward-validator"];
    let mut shipped = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if shipped.insert(name) {
            let linked = packages[name].dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            waiting.extend(linked.filter_map(|d| packages.get_key_value(d.name.as_str())).map(|(name, _)| *name));
        }
    }
    assert!(shipped.contains("keyward-store"), "the tree was not walked: {shipped:?}");
    for name in shipped {
        assert_eq!(enabled_by(name), [] as [&str; 0], "{name} enables {SEAM}");
        // Nor does any other feature enable it, such as the default one.
        for (feature, enables) in packages[name].features.iter().filter(|(feature, _)| *feature != SEAM) {
            let seam = enables.iter().find(|enabled| enabled.rsplit('/').next() == Some(SEAM));
            assert_eq!(seam, None, "feature {feature} of {name}");
        }
    }
    // The tests do enable it, so the rule can find it.
    let crates = ["keyward-admin", "keyward-replica", "keyward-store", "keyward-sync", "keyward-validator"];
    assert_eq!(enabled_by("keyward-tests"), crates);
}
