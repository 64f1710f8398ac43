//! Programs from Debian packages, unpacked but not installed: no root is needed, and the machine stays unchanged.
//!
//! apt uses its own state under the parts' directory. It sees which packages the machine has installed, so a part
//! contains only the libraries that are missing there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::programs::Programs;
use super::{Fetched, locked, once, run};

/// PostgreSQL, server and client.
pub const POSTGRESQL: Package = Package {
    name: "postgresql",
    packages: &["postgresql", "postgresql-client"],
    programs: "usr/lib/postgresql/*/bin",
};

/// PgBouncer, a connection pooler for PostgreSQL.
pub const PGBOUNCER: Package = Package { name: "pgbouncer", packages: &["pgbouncer"], programs: "usr/sbin" };

/// nginx.
pub const NGINX: Package = Package { name: "nginx", packages: &["nginx"], programs: "usr/sbin" };

/// HAProxy.
pub const HAPROXY: Package = Package { name: "haproxy", packages: &["haproxy"], programs: "usr/sbin" };

/// The Debian packages that make up one part.
#[derive(Debug)]
pub struct Package {
    /// The part's name.
    pub name: &'static str,
    /// The packages to unpack, besides the libraries that they need. The part has the version of the first package. If
    /// that is a meta-package, such as `postgresql` for `postgresql-15`, the version of the real package counts.
    pub packages: &'static [&'static str],
    /// The directory of the programs. `*` stands for the only directory at its level.
    pub programs: &'static str,
}

impl Package {
    /// Returns the part's programs. Fetches them into `parts` unless they are there.
    ///
    /// # Errors
    /// If apt does not have or cannot download the packages, or if they cannot be unpacked.
    pub fn fetch(&self, parts: &Path) -> Result<Programs> {
        let key = format!("{}-{}", self.name, release()?);
        let part = once(parts, &key, |partial| self.unpacked(parts, partial));
        let part = part.with_context(|| format!("cannot fetch {} from Debian's packages", self.name))?;
        let root = part.join("root");
        let (directory, libraries) = (found(&root, self.programs)?, library_directories(&root));
        Programs::new(root, directory, libraries)
    }

    fn unpacked(&self, parts: &Path, partial: &Path) -> Result<Fetched> {
        let archives = partial.join("download");
        let (root, mut version, mut bytes) = (partial.join("root"), None, 0);
        fs::create_dir(&archives)?;
        let mut apt = Apt::open(parts)?;
        apt.update()?;
        let main = apt.download(self.packages, &archives).with_context(|| apt.complaints)?;
        for archive in fs::read_dir(&archives)? {
            let archive = archive?;
            bytes += archive.metadata()?.len();
            let file = archive.file_name().to_string_lossy().into_owned();
            version = version.or_else(|| file.strip_prefix(&format!("{main}_")).map(upstream_version));
            run(Command::new("dpkg-deb").arg("--extract").arg(archive.path()).arg(&root))
                .with_context(|| format!("cannot unpack {file}"))?;
        }
        fs::remove_dir_all(archives)?;
        let version = version.with_context(|| format!("apt did not download {main}"))?;
        Ok(Fetched { name: self.name.to_owned(), version, bytes })
    }
}

/// Returns the version in a package's file name, such as `15.4-1` for `1%3a15.4-1_amd64.deb`. The epoch is dropped,
/// because its colon would split a library path.
fn upstream_version(file: &str) -> String {
    let version = file.split('_').next().unwrap_or_default();
    version.rsplit("%3a").next().unwrap_or_default().to_owned()
}

/// Returns the machine's release, such as `debian12`. Parts are kept per release.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("this is no Debian: it has no /etc/os-release")?;
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_matches('"');
    Ok(format!("{}{}", field("ID="), field("VERSION_ID=")))
}

/// apt with its own state.
struct Apt {
    configuration: PathBuf,
    /// Output of `apt-get update`. It may explain why a later step fails.
    complaints: String,
    /// Without this lock, a second apt would fail on apt's own locks instead of waiting.
    _lock: File,
}

impl Apt {
    fn open(parts: &Path) -> Result<Self> {
        let lock = locked(parts, "apt")?;
        let directory = parts.join("apt");
        for subdirectory in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(subdirectory))?;
        }
        let configuration = directory.join("apt.conf");
        fs::write(&configuration, configured(&directory))?;
        Ok(Self { configuration, complaints: String::new(), _lock: lock })
    }

    fn update(&mut self) -> Result<()> {
        // A failure here is not final: the package lists of an earlier update may suffice.
        let output = self.command("apt-get").arg("update").output().context("cannot run apt-get")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        self.complaints = format!("apt-get update ended with {}: '{}'", output.status, stderr.trim());
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("--config-file").arg(&self.configuration);
        command
    }

    /// Downloads packages and the libraries that they need. Returns the real name of the first.
    fn download(&self, packages: &[&str], archives: &Path) -> Result<String> {
        let packages = packages.iter().map(|package| self.real_name(package)).collect::<Result<Vec<_>>>()?;
        let needed = self.needed(&packages)?;
        run(self.command("apt-get").arg("download").args(needed).current_dir(archives))?;
        packages.into_iter().next().context("a part needs a package")
    }

    /// Returns the package that a meta-package depends on, such as `postgresql-15` for `postgresql`. Returns other
    /// names unchanged.
    fn real_name(&self, package: &str) -> Result<String> {
        let depends = run(self.command("apt-cache").args(["depends", "--important", package]))?;
        let versioned = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find(|dependency| {
            let version = dependency.strip_prefix(package).and_then(|rest| rest.strip_prefix('-'));
            version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
        });
        Ok(versioned.unwrap_or(package).to_owned())
    }

    /// Returns the packages, and the libraries that their installation would add to this machine.
    fn needed(&self, packages: &[String]) -> Result<Vec<String>> {
        let mut simulate = self.command("apt-get");
        simulate.args(["install", "--simulate", "--reinstall", "--no-install-recommends"]).args(packages);
        let plan = run(&mut simulate)?;
        let added = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        let libraries = added.filter(|name| is_library(name)).map(str::to_owned);
        Ok(packages.iter().cloned().chain(libraries).collect())
    }
}

fn is_library(package: &str) -> bool {
    let other = package.ends_with("-dev") || package.ends_with("-perl");
    // The C library must match the machine's program loader.
    package.starts_with("lib") && package != "libc6" && !other
}

/// Returns apt's configuration, which apt reads after the machine's own.
fn configured(directory: &Path) -> String {
    let directory = directory.display();
    // The cleared lists are commands that the machine runs after each update, on the machine's own state.
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "{directory}/state/";
Dir::State::Lists "{directory}/state/lists/";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{directory}/cache/";
Acquire::Languages "none";
Acquire::Retries "3";
"#
    )
}

/// Resolves `path` below `root`. `*` stands for the only directory at its level.
fn found(root: &Path, path: &str) -> Result<PathBuf> {
    path.split('/').try_fold(root.to_owned(), |directory, name| {
        if name != "*" {
            return Ok(directory.join(name));
        }
        let entry = fs::read_dir(&directory).ok().and_then(|mut entries| entries.next());
        Ok(entry.with_context(|| format!("{} is missing or empty", directory.display()))??.path())
    })
}

/// Returns the directories of the unpacked libraries. The loader searches the machine's own directories after these.
fn library_directories(root: &Path) -> Vec<PathBuf> {
    let subdirectories = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = [root.join("usr/lib"), root.join("lib")].into_iter().flat_map(subdirectories);
    // Each architecture has a directory of its own, such as x86_64-linux-gnu.
    let libraries = entries.filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"));
    libraries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_apt_does_not_have_is_an_error_that_says_so() {
        let parts = tempfile::tempdir().unwrap();
        // Without an update, apt knows only what is installed here, so no registry is asked for the made-up name.
        let apt = Apt::open(parts.path()).unwrap();
        let error = format!("{:#}", apt.download(&["keyward-no-such-package"], parts.path()).unwrap_err());
        assert!(error.contains("No packages found"), "{error}");
    }

    #[test]
    fn a_library_is_unpacked_and_the_machines_c_library_is_not_replaced() {
        assert!(is_library("libpq5"));
        assert!(!is_library("libc6"));
        assert!(!is_library("libpq-dev"));
        assert!(!is_library("postgresql-common"));
    }

    #[test]
    fn a_directory_is_named_by_the_version_without_its_epoch() {
        assert_eq!(upstream_version("1%3a15.4-1_amd64.deb"), "15.4-1");
        assert_eq!(upstream_version("15.4-1_amd64.deb"), "15.4-1");
    }
}
