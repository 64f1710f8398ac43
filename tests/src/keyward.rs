//! Keyward's own processes.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

/// Returns the directory of the binaries under test. `KEYWARD_TEST_BINARIES` can name one, such as that of an older
/// version on which a new test must fail. Without it, the binaries are built on first use.
///
/// # Panics
/// If they do not build.
fn binaries() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(given) = std::env::var_os("KEYWARD_TEST_BINARIES") {
            return given.into();
        }
        let root = workspace();
        // The whole workspace, as for the tests: cargo then resolves the same features and compiles nothing twice.
        let mut build = cargo();
        build.args(["build", "--workspace", "--bins", "--examples", "--quiet"]);
        // Benchmarks measure the release build.
        let release = !cfg!(debug_assertions);
        if release {
            build.arg("--release");
        }
        let status = build.current_dir(&root).status();
        assert!(status.expect("cargo runs").success(), "the binaries under test do not build");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        root.join(target).join(if release { "release" } else { "debug" })
    });
    &BUILT
}

/// Returns a command for the cargo that runs these tests.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that cargo sets for the tests make build scripts run again, and half of the workspace compile again.
    // The next run of the tests would then rebuild it once more.
    let of_the_tests = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if of_the_tests.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Returns the workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Writes a keyring without a sealing key into a data directory, before the first start.
pub fn write_keyring_without_sealing(data_dir: &Path) {
    let keyring = keyward_token::Keyring::generate().unwrap().render();
    let digests: Vec<_> = keyring.lines().filter(|line| !line.starts_with("sealing")).collect();
    assert!(digests.len() < keyring.lines().count());
    write_secret(&data_dir.join("keyring"), digests.join("\n") + "\n");
}

/// Writes a file that only its owner may read, as an operator does under `umask 077`.
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    let mut options = std::fs::File::options();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// Returns a command for one of the examples of `keyward-client`.
pub fn example(name: &str) -> Command {
    Command::new(binaries().join("examples").join(name))
}

/// Returns a command for one of the binaries, without the `KEYWARD_*` variables of the surrounding environment.
pub fn command(binary: &str) -> Command {
    let mut command = Command::new(binaries().join(binary));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYWARD_") {
            command.env_remove(name);
        }
    }
    command
}

/// A `keyward serve` with its own data directory.
#[derive(Debug)]
pub struct Serve {
    /// The process.
    pub process: Process,
    /// Address of the admin API.
    pub admin: SocketAddr,
    /// Address of the validator's gRPC listener.
    pub validator: SocketAddr,
    /// Address of the HTTP hook; port 0 if it is a Unix socket.
    pub hook: SocketAddr,
    /// Address of the admin's ops listener.
    pub admin_ops: SocketAddr,
    /// Address of the validator's ops listener.
    pub validator_ops: SocketAddr,
    dir: TempDir,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
}

impl Serve {
    /// Starts a process on an empty data directory and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`Serve::start`], with these extra arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in_environment(arguments, Vec::new())
    }

    /// Like [`Serve::start_with`], with these extra environment variables, which every restart keeps.
    pub fn start_in_environment(arguments: &[&str], environment: Vec<(&'static str, OsString)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, arguments.iter().map(|a| (*a).to_owned()).collect(), environment)
    }

    /// Like [`Serve::start_in_environment`], in a process that may open at most `open_files` files.
    pub fn start_with_open_files(
        open_files: u32,
        arguments: &[&str],
        environment: Vec<(&'static str, OsString)>,
    ) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Self::start_limited(tempfile::tempdir().unwrap(), arguments, environment, Some(open_files))
    }

    /// Starts a process on a data directory that `prepare` has filled.
    pub fn start_on(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        prepare(&data);
        Self::start_in(dir, Vec::new(), Vec::new())
    }

    fn start_in(dir: TempDir, arguments: Vec<String>, environment: Vec<(&'static str, OsString)>) -> Self {
        Self::start_limited(dir, arguments, environment, None)
    }

    fn start_limited(
        dir: TempDir,
        arguments: Vec<String>,
        environment: Vec<(&'static str, OsString)>,
        open_files: Option<u32>,
    ) -> Self {
        let mut process = spawn(dir.path(), &arguments, &environment, open_files);
        process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
        let at = last_event(&process.log(), "listening").expect("it listens before it is ready");
        Self {
            admin: address(&at, "admin"),
            validator: address(&at, "validator"),
            hook: address(&at, "hook"),
            admin_ops: address(&at, "admin_ops"),
            validator_ops: address(&at, "validator_ops"),
            process,
            dir,
            arguments,
            environment,
        }
    }

    /// Returns its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns the root member's credential.
    pub fn root(&self) -> String {
        std::fs::read_to_string(self.credential_file()).unwrap().trim().to_owned()
    }

    /// Path of the root member's credential.
    pub fn credential_file(&self) -> PathBuf {
        self.data_dir().join("root.credential")
    }

    /// Returns how long the last start took, in milliseconds, from the log line of its readiness.
    pub fn ready_ms(&self) -> String {
        let ready = last_event(&self.process.log(), "ready").unwrap();
        ready["elapsed_ms"].to_string().trim_matches('"').to_owned()
    }

    /// Ends the process (with SIGKILL if `crash`) and starts another on the same data and the same addresses.
    pub fn restart(self, crash: bool) -> Self {
        self.restart_on(crash, |_| {})
    }

    /// Like [`Serve::restart`], with `prepare` applied to the data directory in between.
    pub fn restart_on(self, crash: bool, prepare: impl FnOnce(&Path)) -> Self {
        let Self { mut process, admin, validator, hook, dir, arguments, environment, .. } = self;
        if crash {
            process.kill();
        } else {
            process.terminate();
        }
        drop(process);
        // The second process gets a new log, so that no line of the first is taken for one of the second.
        std::fs::rename(log_file(dir.path()), dir.path().join("first-life.log")).unwrap();
        prepare(&dir.path().join("data"));
        let fixed = [("--admin-listen", admin), ("--validator-listen", validator), ("--hook-listen", hook)];
        let mut again: Vec<String> = arguments;
        again.extend(fixed.into_iter().flat_map(|(flag, at)| [flag.to_owned(), at.to_string()]));
        Self::start_in(dir, again, environment)
    }

    /// Returns an operator's command line, with this admin's address and the root credential.
    pub fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = command("keyward");
        command.args(arguments).args(["--admin", &format!("http://{}", self.admin)]);
        command.arg("--credential-file").arg(self.credential_file());
        command
    }

    /// Starts a separate validator that follows this admin.
    pub fn spawn_validator(&self, name: &str) -> Validator {
        self.spawn_validator_with(name, &[])
    }

    /// Like [`Serve::spawn_validator`], with these extra arguments.
    pub fn spawn_validator_with(&self, name: &str, arguments: &[&str]) -> Validator {
        let made = self.operator(&["members", "create", name, "--role", "validator"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let credential = self.dir.path().join(format!("{name}.credential"));
        write_secret(&credential, made.stdout);
        start_validator(self.dir.path(), name, &credential, &[self.admin], arguments)
    }

    /// Terminates a validator of [`Serve::spawn_validator`] and starts it again on the same addresses.
    pub fn restart_validator(&self, name: &str, mut validator: Validator, arguments: &[&str]) -> Validator {
        validator.process.terminate();
        let (grpc, hook, ops) = (validator.grpc.to_string(), validator.hook.to_string(), validator.ops.to_string());
        let fixed = ["--listen", &grpc, "--hook-listen", &hook, "--ops-listen", &ops];
        drop(validator);
        // The second process gets a new log, so that no line of the first is taken for one of the second.
        let log = self.dir.path().join(format!("{name}.log"));
        std::fs::rename(&log, log.with_extension("first-life")).unwrap();
        let credential = self.dir.path().join(format!("{name}.credential"));
        start_validator(self.dir.path(), name, &credential, &[self.admin], &[arguments, &fixed].concat())
    }
}

/// Starts a validator that follows these admins, and waits until it is ready. Its log is `{name}.log` in `dir`.
pub fn start_validator(
    dir: &Path,
    name: &str,
    credential: &Path,
    admins: &[SocketAddr],
    arguments: &[&str],
) -> Validator {
    let mut validator = command("keyward-validator");
    for admin in admins {
        validator.args(["--admin", &format!("http://{admin}")]);
    }
    validator.args(arguments).arg("--credential-file").arg(credential).args(["--log-format", "json"]);
    let any = "127.0.0.1:0";
    for (flag, value) in [("--listen", any), ("--hook-listen", any), ("--ops-listen", any), ("--drain-delay", "0ms")] {
        if !arguments.contains(&flag) {
            validator.args([flag, value]);
        }
    }
    let mut process = Process::start(&mut validator, &dir.join(format!("{name}.log")));
    process.wait_for("readiness", |p| last_event(&p.log(), "the validator is ready"));
    let at = last_event(&process.log(), "the validator listens").unwrap();
    Validator { grpc: address(&at, "grpc"), hook: address(&at, "hook"), ops: address(&at, "ops"), process }
}

/// A `keyward-validator` process.
#[derive(Debug)]
pub struct Validator {
    /// The process.
    pub process: Process,
    /// Address of its gRPC listener.
    pub grpc: SocketAddr,
    /// Address of its HTTP hook.
    pub hook: SocketAddr,
    /// Address of its ops listener.
    pub ops: SocketAddr,
}

fn spawn(
    dir: &Path,
    arguments: &[String],
    environment: &[(&'static str, OsString)],
    open_files: Option<u32>,
) -> Process {
    let mut serve = command("keyward");
    if let Some(open_files) = open_files {
        // The shell sets the limit and becomes the process, whose id stays the same.
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {open_files} && exec \"$0\" \"$@\"")).arg(serve.get_program());
        for (name, _) in serve.get_envs() {
            limited.env_remove(name);
        }
        serve = limited;
    }
    serve.envs(environment.iter().cloned());
    serve.arg("serve").arg("--data-dir").arg(dir.join("data"));
    let listeners =
        ["--admin-listen", "--validator-listen", "--hook-listen", "--admin-ops-listen", "--validator-ops-listen"];
    for flag in listeners {
        if !arguments.iter().any(|argument| argument == flag) {
            serve.args([flag, "127.0.0.1:0"]);
        }
    }
    serve.args(arguments).args(["--log-format", "json"]);
    Process::start(&mut serve, &log_file(dir))
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("serve.log")
}

/// Returns the last JSON log line with that message.
pub fn last_event(log: &str, message: &str) -> Option<Value> {
    let events = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.into_iter().find(|event| event["message"] == message)
}

/// Returns the address in a field of a log line.
///
/// # Panics
/// If there is none.
pub fn address(event: &Value, field: &str) -> SocketAddr {
    let text = event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event}"));
    if text.starts_with("unix:") {
        return SocketAddr::from(([127, 0, 0, 1], 0));
    }
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}
