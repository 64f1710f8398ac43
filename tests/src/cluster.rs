//! A Keyward deployment on several processes: admins over one PostgreSQL, and separate validators.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::keyward::{Validator, address, command, last_event, start_validator, write_secret};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::web;

/// A database server, a database, and the files that all admins share.
#[derive(Debug)]
pub struct Cluster {
    /// The database server.
    pub postgres: Postgres,
    /// URL of the database.
    pub url: String,
    dir: TempDir,
}

/// A free port of this machine.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A `keyward admin` process.
#[derive(Debug)]
pub struct AdminProcess {
    /// The process.
    pub process: Process,
    /// Address of the admin API.
    pub at: SocketAddr,
    /// Address of the ops listener.
    pub ops: SocketAddr,
}

/// Returns the value of an admin's metric, from its ops listener.
///
/// # Panics
/// If there is no such metric.
pub async fn admin_metric(ops: SocketAddr, name: &str) -> i64 {
    let page = web::get(ops, "/metrics", &[]).await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("keyward_admin_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

impl AdminProcess {
    /// Returns the value of a metric.
    pub async fn metric(&self, name: &str) -> i64 {
        admin_metric(self.ops, name).await
    }
}

impl Cluster {
    /// Starts a database server and runs `keyward init` with these extra `arguments`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(&[], arguments)
    }

    /// Starts a database server with these `settings`, and runs `keyward init` with these extra `arguments`.
    pub fn start_on(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_over(Postgres::start_with(settings).unwrap(), arguments)
    }

    /// Runs `keyward init` on a database server with these extra `arguments`.
    pub fn start_over(postgres: Postgres, arguments: &[&str]) -> Self {
        let url = postgres.database("keyward").unwrap();
        let cluster = Self { postgres, url, dir: tempfile::tempdir().unwrap() };
        let made = cluster.init(arguments);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    /// Runs `keyward init`.
    pub fn init(&self, arguments: &[&str]) -> Output {
        let mut init = command("keyward");
        init.args(["init", "--database-url", &self.url]).arg("--keyring").arg(self.keyring());
        init.arg("--root-credential").arg(self.credential_file());
        init.arg("--peer-credential").arg(self.peer_credential()).args(arguments);
        init.output().unwrap()
    }

    /// Returns the address of the database server.
    pub fn database_at(&self) -> SocketAddr {
        self.authority().parse().unwrap()
    }

    /// Returns the database's URL with another address, such as that of a [`crate::proxy::Proxy`].
    pub fn url_through(&self, at: SocketAddr) -> String {
        self.url.replace(self.authority(), &at.to_string())
    }

    fn authority(&self) -> &str {
        let after_user = self.url.split_once('@').expect("a URL with a user").1;
        after_user.split_once('/').expect("a URL with a database").0
    }

    /// Path of the keyring.
    pub fn keyring(&self) -> PathBuf {
        self.dir.path().join("keyring")
    }

    /// Path of the root member's credential.
    pub fn credential_file(&self) -> PathBuf {
        self.dir.path().join("root.credential")
    }

    /// Path of the credential with which admins call each other.
    pub fn peer_credential(&self) -> PathBuf {
        self.dir.path().join("peer.credential")
    }

    /// Returns the root member's credential.
    pub fn root(&self) -> String {
        std::fs::read_to_string(self.credential_file()).unwrap().trim().to_owned()
    }

    /// Returns a command for an admin over `url` that advertises itself to its peers and calls them.
    pub fn admin_command(&self, url: &str) -> Command {
        self.admin_command_at(url, ANY)
    }

    fn admin_command_at(&self, url: &str, listen: SocketAddr) -> Command {
        let mut admin = self.admin_without_peers_command_at(url, listen);
        admin.args(["--advertise", &format!("http://{listen}")]);
        admin.arg("--peer-credential-file").arg(self.peer_credential());
        admin
    }

    /// Returns a command for an admin that neither advertises itself nor calls its peers.
    pub fn admin_without_peers_command(&self, url: &str) -> Command {
        self.admin_without_peers_command_at(url, ANY)
    }

    fn admin_without_peers_command_at(&self, url: &str, listen: SocketAddr) -> Command {
        let mut admin = command("keyward");
        admin.args(["admin", "--database-url", url]).arg("--keyring").arg(self.keyring());
        admin.args(["--listen", &listen.to_string(), "--ops-listen", "127.0.0.1:0", "--log-format", "json"]);
        admin
    }

    /// Starts an admin and waits until it is ready.
    pub fn admin(&self, name: &str) -> AdminProcess {
        self.admin_through(name, &self.url)
    }

    /// Starts an admin on the address of one that was killed.
    pub fn admin_at(&self, name: &str, at: SocketAddr) -> AdminProcess {
        self.start_admin(name, &mut self.admin_command_at(&self.url, at))
    }

    /// Starts an admin that neither advertises itself nor calls its peers.
    pub fn admin_without_peers(&self, name: &str) -> AdminProcess {
        self.start_admin(name, &mut self.admin_without_peers_command(&self.url))
    }

    /// Starts an admin that reaches the database at another URL.
    pub fn admin_through(&self, name: &str, url: &str) -> AdminProcess {
        self.start_admin(name, &mut self.admin_command(url))
    }

    fn start_admin(&self, name: &str, command: &mut Command) -> AdminProcess {
        let mut process = Process::start(command, &self.log(name));
        process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
        let at = last_event(&process.log(), "listening").unwrap();
        AdminProcess { at: address(&at, "admin"), ops: address(&at, "admin_ops"), process }
    }

    /// Starts a validator that follows these admins. Its member is created at `member_at`.
    pub fn validator(&self, name: &str, member_at: &AdminProcess, admins: &[SocketAddr]) -> Validator {
        let credential = self.dir.path().join(format!("{name}.credential"));
        let mut create = command("keyward");
        create.args(["members", "create", name, "--role", "validator", "--admin", &format!("http://{}", member_at.at)]);
        let made = create.arg("--credential-file").arg(self.credential_file()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        write_secret(&credential, made.stdout);
        start_validator(self.dir.path(), name, &credential, admins, &[])
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}
