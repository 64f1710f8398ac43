//! Throw-away PostgreSQL servers, of the release that [`parts::postgresql`] brings.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::parts::{self, debian::Programs};

/// Who owns the server's databases.
const OWNER: &str = "keyward";
/// The owner's password. A test may look for it where no password belongs, such as a log.
pub const PASSWORD: &str = "postgres-throw-away";
/// `nobody`, on every Debian. initdb needs a user that has a name.
const NOBODY: u32 = 65534;
/// A test's server holds little and is gone after it, so it does not wait for the disk, and leaves no memory segment
/// behind in `/dev/shm` when it is killed.
const SETTINGS: [(&str, &str); 5] = [
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("synchronous_commit", "on"),
];

/// A PostgreSQL server with a data directory of its own, both gone when this is dropped, and also when the process
/// that holds it dies or ends without dropping it.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
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
    /// When a program of PostgreSQL fails, or the server is not ready in time.
    ///
    /// # Panics
    /// When PostgreSQL's programs cannot be fetched.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with more settings, as `postgresql.conf` has them: they win over this module's, which are
    /// `fsync` off and `synchronous_commit` on.
    ///
    /// # Errors
    /// When a program of PostgreSQL fails, or the server is not ready in time.
    ///
    /// # Panics
    /// When PostgreSQL's programs cannot be fetched.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("keyward-postgres-").tempdir()?;
        // PostgreSQL refuses to run as root.
        let user = geteuid().is_root().then_some(NOBODY);
        chown(&directory, user, user)?;
        let programs = runnable(parts::postgresql(), user, directory.path())?;
        let guard = Guard::watch(&programs, user, directory.path())?;
        let mut postgres = Self { programs, user, port: 0, server: None, guard, directory };
        postgres.initialize(settings)?;
        postgres.start_on_a_free_port()?;
        Ok(postgres)
    }

    /// Where the server is, as `postgres://…`, for its database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// When the name is not a plain one (`a-z`, `0-9`, `_`), or the server does not create it.
    pub fn database(&self, name: &str) -> Result<String> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        ensure!(plain, "{name:?} is no plain name for a database");
        self.run(self.command("createdb").arg("--maintenance-db").arg(self.url()).arg(name))?;
        Ok(self.url_of(name))
    }

    /// Runs SQL with psql, and returns its rows as lines, with `|` between columns.
    ///
    /// # Errors
    /// When the server refuses it; the error carries what it said.
    pub fn psql(&self, url: &str, sql: &str) -> Result<String> {
        let plain = ["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"];
        let said = self.run(self.command("psql").args(plain).arg("--command").arg(sql).arg(url))?;
        Ok(said.trim_end().to_owned())
    }

    /// Stops the server as an operator does: it breaks its connections off, and writes down what it has.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn stop(&mut self) -> Result<()> {
        self.end(&[Signal::INT, Signal::QUIT, Signal::KILL])
    }

    /// Stops the server in the middle of what it does: the next start recovers from its log.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn crash(&mut self) -> Result<()> {
        self.end(&[Signal::QUIT, Signal::KILL])
    }

    /// Starts the server again, stopping it first if it runs: same data, same URL.
    ///
    /// # Errors
    /// When it cannot be stopped, or is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// The directory of the server's Unix socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a program run as the server's user, which owns the program's directory from then on.
    ///
    /// # Panics
    /// When the directory cannot be given to that user.
    pub fn as_its_user(&self, command: &mut Command, directory: &Path) {
        if let Some(user) = self.user {
            chown(directory, Some(user), Some(user)).unwrap();
            command.uid(user).gid(user);
        }
    }

    /// What the server wrote to its log since its first start.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = fs::read(self.directory.path().join("log"))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{OWNER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    fn command(&self, program: &str) -> Command {
        command(&self.programs, program, self.user, self.directory.path())
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        parts::run(command).with_context(|| format!("PostgreSQL on port {}", self.port))
    }

    fn initialize(&self, settings: &[(&str, &str)]) -> Result<()> {
        let directory = self.directory.path();
        let password = directory.join("password");
        fs::write(&password, PASSWORD)?;
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", "--username", OWNER]);
        initdb.arg("--pwfile").arg(password).arg("--pgdata").arg(directory.join("data"));
        parts::run(&mut initdb)?;
        let sockets = directory.to_string_lossy();
        let own = SETTINGS.into_iter().chain([("unix_socket_directories", &*sockets)]);
        // The last of two settings wins.
        let settings = own.chain(settings.iter().copied());
        let lines = settings.map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
        let mut file = File::options().append(true).open(directory.join("data/postgresql.conf"))?;
        Ok(file.write_all(lines.collect::<String>().as_bytes())?)
    }

    /// Another process may take a port between our finding it and the server's opening it.
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
        // Its own process group: a Ctrl-C for the tests is not for the server, which ends when they let go of it.
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

    /// Whether this very process says that it takes connections: its first and eighth line, as pg_ctl reads them.
    fn is_ready(&self, server: u32) -> bool {
        let file = fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = file.lines().map(str::trim).collect();
        lines.first() == Some(&server.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    /// Ends the server by the first of the signals that does it within ten seconds.
    fn end(&mut self, signals: &[Signal]) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        for signal in signals {
            // As long as nobody waited for it, its id cannot become another process's.
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
            // Not a panic: this may run in one.
            let _ = writeln!(std::io::stderr(), "{error:#}");
        }
        self.guard.dismiss();
    }
}

/// A shell that stops the server and removes its directory when we cannot: it reads from a pipe that we hold, until we
/// are gone. What a `static` holds is never dropped, and a test process may be killed.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// Where no server runs, one may be about to, or initdb may be at work: it would leave memory segments behind if its
    /// directory went away under it.
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
        // Its own process group: it must outlive a Ctrl-C for the tests.
        Ok(Self(shell.process_group(0).spawn().context("cannot start sh")?))
    }

    /// Killed before its pipe closes, it does nothing.
    fn dismiss(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The programs, or a copy of them if they lie where `user` cannot go, as under root's home.
fn runnable(programs: &Programs, user: Option<u32>, directory: &Path) -> Result<Programs> {
    if user.is_none() || runs(programs, user, directory).is_ok() {
        return Ok(programs.clone());
    }
    let to = directory.join("programs");
    let copy = programs.copied(&to)?;
    parts::run(Command::new("chown").arg("--recursive").arg(NOBODY.to_string()).arg(&to))?;
    let (from, to) = (programs.root().display(), to.display());
    runs(&copy, user, directory).with_context(|| {
        format!(
            "user {NOBODY} can run PostgreSQL neither in {from} nor in {to} (TMPDIR): are directories above closed?"
        )
    })?;
    Ok(copy)
}

fn runs(programs: &Programs, user: Option<u32>, directory: &Path) -> Result<String> {
    parts::run(command(programs, "postgres", user, directory).arg("--version"))
}

fn command(programs: &Programs, program: &str, user: Option<u32>, directory: &Path) -> Command {
    let mut command = programs.command(program);
    // The tests' own directory may be closed to the user.
    command.current_dir(directory).env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    // What the machine's user set for a server of theirs, such as PGPORT, is not for this one.
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

/// A port of 127.0.0.1 on which nobody listens, from below those that the kernel gives to outgoing connections. From
/// among those, a client that tries again and again while its server is down could end up connected to itself, and the
/// server could not come back.
///
/// # Errors
/// When a thousand ports in turn are taken.
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
    fn the_server_is_the_fetched_one_and_not_the_machines() {
        let postgres = Postgres::start().unwrap();
        let shared = postgres.psql(&postgres.url(), "select setting from pg_config where name = 'SHAREDIR'").unwrap();
        assert!(shared.starts_with(&*postgres.programs.root().to_string_lossy()), "{shared}");
    }

    #[test]
    fn settings_of_the_caller_win() {
        let postgres = Postgres::start_with(&[("fsync", "on"), ("cluster_name", "it's mine")]).unwrap();
        let show = |name: &str| postgres.psql(&postgres.url(), &format!("show {name}")).unwrap();
        assert_eq!((show("fsync"), show("cluster_name")), ("on".to_owned(), "it's mine".to_owned()));
        assert_eq!(show("synchronous_commit"), "on");
    }

    #[test]
    fn what_was_committed_outlives_stop_crash_and_restart() {
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
    fn a_server_whose_holder_died_is_stopped_and_removed() {
        let mut postgres = Postgres::start().unwrap();
        let directory = postgres.directory.path().to_owned();
        // What the holder's death does to its end of the pipe.
        drop(postgres.guard.0.stdin.take());
        assert!(ended_within(postgres.server.as_mut().unwrap(), Duration::from_secs(10)).unwrap());
        assert!(postgres.guard.0.wait().is_ok());
        assert!(!directory.exists());
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let error = Postgres::start_with(&[("shared_buffers", "none")]).unwrap_err();
        assert!(format!("{error:#}").contains("invalid value for parameter \"shared_buffers\""), "{error:#}");
    }

    #[test]
    fn programs_where_the_servers_user_cannot_go_are_copied() {
        let closed = tempfile::tempdir().unwrap();
        let programs = parts::postgresql().copied(&closed.path().join("programs")).unwrap();
        let user = geteuid().is_root().then_some(NOBODY);
        let open = tempfile::tempdir().unwrap();
        chown(&open, user, user).unwrap();
        let runnable = runnable(&programs, user, open.path()).unwrap();
        assert!(runs(&runnable, user, open.path()).unwrap().starts_with("postgres (PostgreSQL)"));
    }
}
