//! Throw-away PostgreSQL servers, of Debian's version ([`parts::postgresql`]) or of another one
//! ([`parts::postgresql_server`]).

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::parts::{self, programs::Programs};

/// The database role that owns all databases.
const OWNER: &str = "keyward";
/// The owner's password. Tests search logs and other output for it.
pub const PASSWORD: &str = "postgres-throw-away";
/// Debian's unprivileged user. initdb needs a user that has a name.
const NOBODY: u32 = 65534;
/// Settings for throw-away servers. They do not wait for the disk, and a killed server leaves no memory segment in
/// `/dev/shm`.
const SETTINGS: [(&str, &str); 5] = [
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("synchronous_commit", "on"),
];

/// A PostgreSQL server with its own data directory. Both are removed when this is dropped, and also when the process
/// that owns it dies without dropping it.
#[derive(Debug)]
pub struct Postgres {
    /// The part that the server is from.
    part: &'static Programs,
    /// The part, or a copy of it that the server's user can run.
    programs: Programs,
    /// The programs of Debian's version, which include the clients.
    clients: Programs,
    user: Option<u32>,
    port: u16,
    server: Option<Child>,
    guard: Guard,
    directory: TempDir,
}

impl Postgres {
    /// Starts a server with an empty database `postgres`.
    ///
    /// # Errors
    /// If a program of PostgreSQL fails, or the server is not ready in time.
    ///
    /// # Panics
    /// If PostgreSQL's programs cannot be fetched.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with extra settings of `postgresql.conf`. They override this module's, such as `fsync` off and
    /// `synchronous_commit` on.
    ///
    /// # Errors
    /// If a program of PostgreSQL fails, or the server is not ready in time.
    ///
    /// # Panics
    /// If PostgreSQL's programs cannot be fetched.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_part(parts::postgresql(), settings)
    }

    /// Starts a server of the major version `major`, such as 18, with an empty database `postgres`.
    ///
    /// # Errors
    /// If a program of PostgreSQL fails, the server is not ready in time, or it is of another version.
    ///
    /// # Panics
    /// If PostgreSQL's programs cannot be fetched.
    pub fn start_version(major: u32) -> Result<Self> {
        let postgres = Self::start_part(parts::postgresql_server(major), &[])?;
        let version = postgres.psql(&postgres.url(), "show server_version_num")?;
        ensure!(version.parse::<u32>()? / 10_000 == major, "the server's version is {version}, not {major}");
        Ok(postgres)
    }

    fn start_part(part: &'static Programs, settings: &[(&str, &str)]) -> Result<Self> {
        let mut postgres = Self::prepare(part)?;
        postgres.initialize(settings)?;
        postgres.start_on_a_free_port()?;
        Ok(postgres)
    }

    /// A server without data, in a directory of its own.
    fn prepare(part: &'static Programs) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("keyward-postgres-").tempdir()?;
        // PostgreSQL refuses to run as root.
        let user = geteuid().is_root().then_some(NOBODY);
        chown(&directory, user, user)?;
        let programs = runnable(part, "postgres", user, &directory.path().join("programs"))?;
        let clients = runnable(parts::postgresql(), "psql", user, &directory.path().join("clients"))?;
        let guard = Guard::watch(&programs, user, directory.path())?;
        Ok(Self { part, programs, clients, user, port: 0, server: None, guard, directory })
    }

    /// Returns the `postgres://` URL of the server's database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// If the name contains anything but `a-z`, `0-9` and `_`, or the server does not create the database.
    pub fn database(&self, name: &str) -> Result<String> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        ensure!(plain, "{name:?} is no plain name for a database");
        self.run(self.client_command("createdb").arg("--maintenance-db").arg(self.url()).arg(name))?;
        Ok(self.url_of(name))
    }

    /// Runs SQL with psql. Returns its rows as lines, with `|` between columns.
    ///
    /// # Errors
    /// If the server refuses it. The error carries the server's message.
    pub fn psql(&self, url: &str, sql: &str) -> Result<String> {
        let plain = ["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"];
        let rows = self.run(self.client_command("psql").args(plain).arg("--command").arg(sql).arg(url))?;
        Ok(rows.trim_end().to_owned())
    }

    /// Shuts the server down as an operator does: it closes its connections and writes a checkpoint.
    ///
    /// # Errors
    /// If the process cannot be signalled or waited for.
    pub fn stop(&mut self) -> Result<()> {
        self.end(&[Signal::INT, Signal::QUIT, Signal::KILL])
    }

    /// Aborts the server: the next start recovers from the write-ahead log.
    ///
    /// # Errors
    /// If the process cannot be signalled or waited for.
    pub fn crash(&mut self) -> Result<()> {
        self.end(&[Signal::QUIT, Signal::KILL])
    }

    /// Starts the server again on the same data and URL. Stops it first if it runs.
    ///
    /// # Errors
    /// If it cannot be stopped, or is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Starts a second server with the data that this one has now, as if a standby were promoted while this server lives on.
    /// This server is restarted meanwhile.
    ///
    /// # Errors
    /// If a program of PostgreSQL fails, or a server is not ready in time.
    pub fn split(&mut self) -> Result<Self> {
        let mut other = Self::prepare(self.part)?;
        self.stop()?;
        copy(&self.directory.path().join("data"), &other.directory.path().join("data"))?;
        other.finish_data(&[])?;
        self.launch()?;
        other.start_on_a_free_port()?;
        Ok(other)
    }

    /// The address of the server.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// The directory of the server's Unix socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes `command` run as the server's user, and gives that user the `directory`.
    ///
    /// # Panics
    /// If the owner of the directory cannot be changed.
    pub fn as_its_user(&self, command: &mut Command, directory: &Path) {
        if let Some(user) = self.user {
            chown(directory, Some(user), Some(user)).unwrap();
            command.uid(user).gid(user);
        }
    }

    /// Returns everything that the server has logged since its first start.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = fs::read(self.directory.path().join("log"))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{OWNER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns a command that finds PostgreSQL's own programs in its PATH, such as a shell with commands of the documentation.
    ///
    /// # Panics
    /// If the path of the programs is not valid in a PATH.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = std::iter::once(self.clients.directory().to_owned()).chain(std::env::split_paths(&path));
        let of_clients = self.clients.command("psql");
        let libraries = of_clients.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut client = Command::new(program);
        client.envs(libraries).env("PATH", std::env::join_paths(programs).unwrap()).env("LC_ALL", "C");
        client
    }

    fn command(&self, program: &str) -> Command {
        command(&self.programs, program, self.user, self.directory.path())
    }

    fn client_command(&self, program: &str) -> Command {
        command(&self.clients, program, self.user, self.directory.path())
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        parts::run(command).with_context(|| format!("PostgreSQL on port {}", self.port))
    }

    /// Makes the data directory: a copy of the one that initdb made for the first server of the part. initdb takes ten
    /// times as long as the copy.
    fn initialize(&self, settings: &[(&str, &str)]) -> Result<()> {
        let directory = self.directory.path();
        let data = directory.join("data");
        let programs = self.part.root().parent().and_then(Path::file_name).context("no directory")?;
        let template = parts::made_once(&format!("{}-data", programs.to_string_lossy()), |template| {
            self.initdb(&data)?;
            copy(&data, template)
        })?;
        if !data.exists() {
            copy(&template, &data)?;
        }
        self.finish_data(settings)
    }

    /// Makes a copied data directory the server's own, and adds settings.
    fn finish_data(&self, settings: &[(&str, &str)]) -> Result<()> {
        let directory = self.directory.path();
        if let Some(user) = self.user {
            let data = directory.join("data");
            parts::run(Command::new("chown").arg("--recursive").arg(format!("{user}:{user}")).arg(data))?;
        }
        let sockets = directory.to_string_lossy();
        let own = SETTINGS.into_iter().chain([("unix_socket_directories", &*sockets)]);
        // Of two settings with one name, PostgreSQL takes the last.
        let settings = own.chain(settings.iter().copied());
        let lines = settings.map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
        let mut file = File::options().append(true).open(directory.join("data/postgresql.conf"))?;
        Ok(file.write_all(lines.collect::<String>().as_bytes())?)
    }

    fn initdb(&self, data: &Path) -> Result<()> {
        let password = self.directory.path().join("password");
        fs::write(&password, PASSWORD)?;
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", "--username", OWNER]);
        initdb.arg("--pwfile").arg(password).arg("--pgdata").arg(data);
        parts::run(&mut initdb).map(drop)
    }

    /// Retries, because another process may take the port before the server opens it.
    fn start_on_a_free_port(&mut self) -> Result<()> {
        for _ in 0..5 {
            self.port = free_port()?;
            match self.launch() {
                Err(error) if format!("{error:#}").contains("Address already in use") => {}
                launched => return launched,
            }
        }
        bail!("five free ports in turn were taken before PostgreSQL could open them")
    }

    /// Starts the server's process and waits until it takes connections.
    fn launch(&mut self) -> Result<()> {
        let log = File::options().append(true).create(true).open(self.directory.path().join("log"))?;
        let began = log.metadata()?.len();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.directory.path().join("data")).arg("-p").arg(self.port.to_string());
        // Its own process group: a Ctrl-C for the tests must not reach the server, which ends when the tests drop it.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut server = command.spawn().context("cannot start postgres")?;
        let ready = self.wait_until_ready(&mut server);
        self.server = Some(server);
        ready.or_else(|error| {
            self.stop()?;
            let log = self.log()?;
            Err(error.context(log.get(began as usize..).unwrap_or_default().trim().to_owned()))
        })
    }

    fn wait_until_ready(&self, server: &mut Child) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_ready(server.id()) {
            if let Some(status) = server.try_wait()? {
                bail!("postgres ended with {status} before it was ready");
            }
            ensure!(Instant::now() < deadline, "postgres was not ready after a minute");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Returns `true` if this process accepts connections, by the first and eighth lines of `postmaster.pid`, as pg_ctl
    /// does.
    fn is_ready(&self, server: u32) -> bool {
        let file = fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = file.lines().map(str::trim).collect();
        lines.first() == Some(&server.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    /// Ends the server with the first of `signals` that works within ten seconds.
    fn end(&mut self, signals: &[Signal]) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        for signal in signals {
            // The process id cannot be reused before the process has been waited for.
            if server.try_wait()?.is_some() {
                return Ok(());
            }
            kill_process(Pid::from_child(&server), *signal)?;
            if ended_within(&mut server, Duration::from_secs(10))? {
                return Ok(());
            }
        }
        bail!("no signal ended postgres, process {}", server.id())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            // No panic here: this may run during one.
            let _ = writeln!(std::io::stderr(), "{error:#}");
        }
        self.guard.dismiss();
    }
}

/// A shell that stops the server and removes its directory when the test process dies. It blocks on reading a pipe that
/// the test process holds open. This covers killed processes, and servers in a `static`, which are never dropped.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// If no server runs, one may be about to start, or initdb may be running. Removing its directory then would leave
    /// memory segments behind, so the script tries to stop it twice.
    const SCRIPT: &str = r#"
read -r _
stop() { "$1" -D "$2/data" -m fast stop; }
stop "$@" || { sleep 5; stop "$@"; }
rm -rf "$2"
"#;

    fn watch(programs: &Programs, user: Option<u32>, directory: &Path) -> Result<Self> {
        let mut shell = command(programs, "/bin/sh", user, directory);
        shell.arg("-c").arg(Self::SCRIPT).arg("sh").arg(programs.directory().join("pg_ctl")).arg(directory);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own process group: it must survive a Ctrl-C for the tests.
        Ok(Self(shell.process_group(0).spawn().context("cannot start sh")?))
    }

    /// Kills the shell before its pipe closes, so that it does nothing.
    fn dismiss(&mut self) {
        // It may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Returns the programs, one of which is `program`, or a copy of them in the new directory `to` if `user` cannot access their
/// directory, such as one under root's home.
fn runnable(programs: &Programs, program: &str, user: Option<u32>, to: &Path) -> Result<Programs> {
    let directory = to.parent().context("no directory")?;
    if user.is_none() || runs(programs, program, user, directory).is_ok() {
        return Ok(programs.clone());
    }
    let copy = programs.copied(to)?;
    parts::run(Command::new("chown").arg("--recursive").arg(NOBODY.to_string()).arg(to))?;
    let (from, to) = (programs.root().display(), to.display());
    runs(&copy, program, user, directory).with_context(|| {
        format!(
            "user {NOBODY} can run PostgreSQL neither in {from} nor in {to} (TMPDIR): are directories above closed?"
        )
    })?;
    Ok(copy)
}

/// Copies a data directory, with the modes that PostgreSQL insists on.
fn copy(from: &Path, to: &Path) -> Result<()> {
    parts::run(Command::new("cp").args(["--recursive", "--preserve=mode"]).arg(from).arg(to)).map(drop)
}

fn runs(programs: &Programs, program: &str, user: Option<u32>, directory: &Path) -> Result<String> {
    parts::run(command(programs, program, user, directory).arg("--version"))
}

fn command(programs: &Programs, program: &str, user: Option<u32>, directory: &Path) -> Command {
    let mut command = programs.command(program);
    // The tests' own directory may be closed to that user.
    command.current_dir(directory).env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    // Variables for the developer's own server, such as PGPORT, must not affect this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command
}

fn ended_within(process: &mut Child, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while process.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Returns a free port of 127.0.0.1, below the range of the kernel's ephemeral ports. On an ephemeral port, a client
/// that reconnects while its server is down could connect to itself, and the server could not start again.
///
/// # Errors
/// If a thousand consecutive ports are taken.
pub fn free_port() -> Result<u16> {
    let random = RandomState::new().build_hasher().finish() % 20_000;
    let mut ports = (0..1000).filter_map(|step| u16::try_from(10_000 + (random + step) % 20_000).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("a thousand ports in turn are taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_in_a_database_of_its_own() {
        let postgres = Postgres::start().unwrap();
        assert_eq!(postgres.psql(&postgres.url(), "select 1").unwrap(), "1");
        let first = postgres.database("first").unwrap();
        let second = postgres.database("second").unwrap();
        postgres.psql(&first, "create table only_here ()").unwrap();
        assert_eq!(postgres.psql(&second, "select to_regclass('only_here') is null").unwrap(), "t");
    }

    #[test]
    fn the_server_is_the_fetched_one_not_the_one_installed() {
        let postgres = Postgres::start().unwrap();
        let shared = postgres.psql(&postgres.url(), "select setting from pg_config where name = 'SHAREDIR'").unwrap();
        assert!(shared.starts_with(&*postgres.programs.root().to_string_lossy()), "{shared}");
    }

    #[test]
    fn settings_of_the_caller_override_the_defaults() {
        let postgres = Postgres::start_with(&[("fsync", "on"), ("cluster_name", "it's mine")]).unwrap();
        let show = |name: &str| postgres.psql(&postgres.url(), &format!("show {name}")).unwrap();
        assert_eq!((show("fsync"), show("cluster_name")), ("on".to_owned(), "it's mine".to_owned()));
        assert_eq!(show("synchronous_commit"), "on");
    }

    #[test]
    fn committed_rows_survive_stop_crash_and_restart() {
        let mut postgres = Postgres::start().unwrap();
        let url = postgres.database("kept").unwrap();
        postgres.psql(&url, "create table rows (n int)").unwrap();
        let (mut insert, mut expected) = (0, Vec::new());
        for end in [Postgres::stop, Postgres::crash] {
            insert += 1;
            expected.push(insert.to_string());
            postgres.psql(&url, &format!("insert into rows values ({insert})")).unwrap();
            end(&mut postgres).unwrap();
            assert!(postgres.psql(&url, "select 1").is_err());
            postgres.restart().unwrap();
            assert_eq!(postgres.psql(&url, "select n from rows order by n").unwrap(), expected.join("\n"));
        }
        assert!(postgres.log().unwrap().contains("automatic recovery in progress"));
    }

    #[test]
    fn a_dropped_server_leaves_nothing_behind() {
        let postgres = Postgres::start().unwrap();
        let directory = postgres.directory.path().to_owned();
        let server = Pid::from_child(postgres.server.as_ref().unwrap());
        drop(postgres);
        assert!(!directory.exists());
        assert!(rustix::process::test_kill_process(server).is_err());
    }

    #[test]
    fn a_server_is_stopped_and_removed_when_its_owner_dies() {
        let mut postgres = Postgres::start().unwrap();
        let directory = postgres.directory.path().to_owned();
        // Closes the pipe, as the death of the test process does.
        drop(postgres.guard.0.stdin.take());
        assert!(ended_within(postgres.server.as_mut().unwrap(), Duration::from_secs(10)).unwrap());
        assert!(postgres.guard.0.wait().is_ok());
        assert!(!directory.exists());
    }

    #[test]
    fn the_error_of_a_failed_start_contains_the_servers_log() {
        let error = Postgres::start_with(&[("shared_buffers", "none")]).unwrap_err();
        assert!(format!("{error:#}").contains("invalid value for parameter \"shared_buffers\""), "{error:#}");
    }

    #[test]
    fn programs_out_of_reach_of_the_servers_user_are_copied() {
        let closed = tempfile::tempdir().unwrap();
        let programs = parts::postgresql().copied(&closed.path().join("programs")).unwrap();
        let user = geteuid().is_root().then_some(NOBODY);
        let open = tempfile::tempdir().unwrap();
        chown(&open, user, user).unwrap();
        let runnable = runnable(&programs, "postgres", user, &open.path().join("programs")).unwrap();
        assert!(runs(&runnable, "postgres", user, open.path()).unwrap().starts_with("postgres (PostgreSQL)"));
    }
}
