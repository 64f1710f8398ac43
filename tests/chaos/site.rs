//! The system under test: admins over one PostgreSQL, validators, and a proxy on every link between them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use keyward_proto::admin::Role;
use keyward_tests::client::{Admin, on_platform};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{command, write_secret};
use keyward_tests::postgres::free_port;
use keyward_tests::process::{PATIENCE, Process};
use keyward_tests::proxy::Proxy;
use keyward_tests::web::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::schedule::{ADMINS, VALIDATORS};

/// The lease D.
const LEASE: &str = "2s";

/// The wait-out time D' for this lease: 2 s × 1.1 / 0.9 + 50 ms.
pub(crate) const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// The project of all keys.
pub(crate) const PROJECT: &str = "6666";

/// The polling interval.
const POLL: Duration = Duration::from_millis(20);

/// A program that can be killed and started again on the same addresses.
pub(crate) struct Program {
    /// Address of its gRPC listener.
    pub(crate) at: SocketAddr,
    ops: SocketAddr,
    log: PathBuf,
    make: Box<dyn Fn() -> Command + Send + Sync>,
    process: Mutex<Option<Process>>,
}

/// All processes and the links between them.
pub(crate) struct Site {
    pub(crate) admins: Vec<Program>,
    pub(crate) validators: Vec<Program>,
    /// Links by validator and admin.
    pub(crate) links: Vec<Vec<Proxy>>,
    /// Links by admin.
    pub(crate) database_links: Vec<Proxy>,
    /// Locked while the database server is stopped and started.
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    /// The database's URL, with no proxy in between.
    pub(crate) database_url: String,
    /// The root member's credential.
    pub(crate) root: String,
    logs: Mutex<TempDir>,
}

/// Returns an address outside the range of ephemeral ports. On an ephemeral port, a client that reconnects while its
/// server is down could connect to itself.
fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

impl Program {
    fn new(log: PathBuf, make: impl Fn(SocketAddr, SocketAddr) -> Command + Send + Sync + 'static) -> Self {
        let (at, ops) = (address(), address());
        Self { at, ops, log, make: Box::new(move || make(at, ops)), process: Mutex::new(None) }
    }

    /// Starts the process without waiting until it is ready.
    pub(crate) fn start(&self) {
        *self.process.lock().unwrap() = Some(Process::start(&mut (self.make)(), &self.log));
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&self) {
        drop(self.process.lock().unwrap().take());
    }

    /// Returns `true` if it has ended without a fault.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(Process::has_ended)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.lock().unwrap().as_ref().expect("it runs between faults").signal(signal);
    }

    /// Waits until the readiness probe succeeds.
    ///
    /// # Panics
    /// If it takes longer than [`PATIENCE`]. The message contains the end of the log.
    pub(crate) async fn ready(&self) {
        let begun = Instant::now();
        while !self.is_ready().await {
            assert!(begun.elapsed() < PATIENCE, "{} is not ready in time:\n{}", self.log.display(), self.log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let probe = async {
            let mut connection = Connection::open(self.ops).await?;
            anyhow::Ok(connection.request(Method::GET, "/readyz", &[]).await?.status == 200)
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), probe).await, Ok(Ok(true)))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Returns the log lines of panics. Each of them is a defect.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }
}

impl Site {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(&["--lease", LEASE])).await.unwrap();
        let logs = tempfile::tempdir().unwrap();
        let (mut admins, mut database_links) = (Vec::new(), Vec::new());
        for n in 0..ADMINS {
            let link = Proxy::to(cluster.database_at()).await;
            admins.push(admin(&cluster, logs.path().join(format!("a{n}.log")), &link));
            database_links.push(link);
        }
        for admin in &admins {
            admin.start();
            admin.ready().await;
        }
        let (root, database_url) = (cluster.root(), cluster.url.clone());
        let client = Admin::connect(admins[0].at, &root).await;
        client.create_project(PROJECT).await.unwrap();
        let (mut validators, mut links) = (Vec::new(), Vec::new());
        for n in 0..VALIDATORS {
            let credential = client.create_member(&format!("v{n}"), &[on_platform(Role::Validator)]).await.unwrap();
            let file = logs.path().join(format!("v{n}.credential"));
            write_secret(&file, credential);
            let to_admins = [Proxy::to(admins[0].at).await, Proxy::to(admins[1].at).await];
            validators.push(validator(logs.path().join(format!("v{n}.log")), file, &to_admins));
            links.push(to_admins.into());
        }
        for validator in &validators {
            validator.start();
        }
        let cluster = Arc::new(Mutex::new(cluster));
        let logs = Mutex::new(logs);
        let site = Self { admins, validators, links, database_links, cluster, database_url, root, logs };
        site.ready().await;
        site
    }

    /// Waits until every process is ready.
    pub(crate) async fn ready(&self) {
        for program in self.programs() {
            program.ready().await;
        }
    }

    /// Returns every process except the database.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Program> {
        self.admins.iter().chain(&self.validators)
    }

    /// Prevents the removal of the logs. Returns their directory.
    pub(crate) fn keep_logs(&self) -> PathBuf {
        let mut logs = self.logs.lock().unwrap();
        logs.disable_cleanup(true);
        logs.path().to_owned()
    }
}

fn admin(cluster: &Cluster, log: PathBuf, database: &Proxy) -> Program {
    let (url, keyring, peer) = (cluster.url_through(database.at), cluster.keyring(), cluster.peer_credential());
    Program::new(log, move |at, ops| {
        let mut admin = command("keyward");
        admin.args(["admin", "--database-url", &url]).arg("--keyring").arg(&keyring).args(["--log-format", "json"]);
        admin.args(["--listen", &at.to_string(), "--ops-listen", &ops.to_string()]);
        // Admins reach each other without a proxy, so the network between them fails only together with one of them.
        admin.args(["--advertise", &format!("http://{at}")]).arg("--peer-credential-file").arg(&peer);
        admin
    })
}

fn validator(log: PathBuf, credential: PathBuf, admins: &[Proxy]) -> Program {
    let hook = address().to_string();
    let admins: Vec<_> = admins.iter().map(|link| format!("http://{}", link.at)).collect();
    Program::new(log, move |at, ops| {
        let mut validator = command("keyward-validator");
        validator.args(["--admin", &admins.join(",")]).arg("--credential-file").arg(&credential);
        validator.args(["--listen", &at.to_string(), "--ops-listen", &ops.to_string(), "--hook-listen", &hook]);
        validator.args(["--drain-delay", "0ms", "--log-format", "json"]);
        validator
    })
}
