//! What is put to the test: admins over one PostgreSQL, validators, and a proxy on every way between them.

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

/// D.
const LEASE: &str = "2s";

/// D' for it: 2 s × 1.1 / 0.9 and 50 ms.
pub(crate) const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// The project that all keys belong to.
pub(crate) const PROJECT: &str = "6666";

/// How often to look whether something has come back.
const LOOK: Duration = Duration::from_millis(20);

/// A program that is killed and started again, always on the same addresses.
pub(crate) struct Program {
    /// Where its gRPC is.
    pub(crate) at: SocketAddr,
    ops: SocketAddr,
    log: PathBuf,
    make: Box<dyn Fn() -> Command + Send + Sync>,
    process: Mutex<Option<Process>>,
}

/// All of it.
pub(crate) struct Site {
    pub(crate) admins: Vec<Program>,
    pub(crate) validators: Vec<Program>,
    /// By validator and admin.
    pub(crate) ways: Vec<Vec<Proxy>>,
    /// By admin.
    pub(crate) database_ways: Vec<Proxy>,
    /// Locked while the database server is stopped and started.
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    /// The database's URL, with no proxy in between.
    pub(crate) database_url: String,
    /// The root member's credential.
    pub(crate) root: String,
    logs: Mutex<TempDir>,
}

/// An address whose port nobody is given by chance: a client that tries again and again while its server is down could
/// end up connected to itself.
fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

impl Program {
    fn new(log: PathBuf, make: impl Fn(SocketAddr, SocketAddr) -> Command + Send + Sync + 'static) -> Self {
        let (at, ops) = (address(), address());
        Self { at, ops, log, make: Box::new(move || make(at, ops)), process: Mutex::new(None) }
    }

    /// Starts it; it need not be ready when this returns.
    pub(crate) fn start(&self) {
        *self.process.lock().unwrap() = Some(Process::start(&mut (self.make)(), &self.log));
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&self) {
        drop(self.process.lock().unwrap().take());
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(Process::has_ended)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.lock().unwrap().as_ref().expect("it runs between faults").signal(signal);
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When that takes too long, with its log.
    pub(crate) async fn ready(&self) {
        let begun = Instant::now();
        while !self.is_ready().await {
            assert!(begun.elapsed() < PATIENCE, "{} is not ready in time:\n{}", self.log.display(), self.last_words());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let asked = async {
            let mut connection = Connection::open(self.ops).await?;
            anyhow::Ok(connection.request(Method::GET, "/readyz", &[]).await?.status == 200)
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(true)))
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Lines that a program writes only when it has a defect.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }
}

impl Site {
    /// Starts everything, and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(&["--lease", LEASE])).await.unwrap();
        let logs = tempfile::tempdir().unwrap();
        let (mut admins, mut database_ways) = (Vec::new(), Vec::new());
        for n in 0..ADMINS {
            let way = Proxy::to(cluster.database_at()).await;
            admins.push(admin(&cluster, logs.path().join(format!("a{n}.log")), &way));
            database_ways.push(way);
        }
        for admin in &admins {
            admin.start();
            admin.ready().await;
        }
        let (root, database_url) = (cluster.root(), cluster.url.clone());
        let client = Admin::connect(admins[0].at, &root).await;
        client.create_project(PROJECT).await.unwrap();
        let (mut validators, mut ways) = (Vec::new(), Vec::new());
        for n in 0..VALIDATORS {
            let credential = client.create_member(&format!("v{n}"), &[on_platform(Role::Validator)]).await.unwrap();
            let file = logs.path().join(format!("v{n}.credential"));
            write_secret(&file, credential);
            let to_admins = [Proxy::to(admins[0].at).await, Proxy::to(admins[1].at).await];
            validators.push(validator(logs.path().join(format!("v{n}.log")), file, &to_admins));
            ways.push(to_admins.into());
        }
        for validator in &validators {
            validator.start();
        }
        let cluster = Arc::new(Mutex::new(cluster));
        let logs = Mutex::new(logs);
        let site = Self { admins, validators, ways, database_ways, cluster, database_url, root, logs };
        site.ready().await;
        site
    }

    /// Waits until everything is ready.
    pub(crate) async fn ready(&self) {
        for program in self.programs() {
            program.ready().await;
        }
    }

    /// All that runs, but for the database.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Program> {
        self.admins.iter().chain(&self.validators)
    }

    /// Keeps the logs, and says where.
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
        // Admins reach each other directly: what is between them can only fail as a whole, with one of them.
        admin.args(["--advertise", &format!("http://{at}")]).arg("--peer-credential-file").arg(&peer);
        admin
    })
}

fn validator(log: PathBuf, credential: PathBuf, admins: &[Proxy]) -> Program {
    let hook = address().to_string();
    let admins: Vec<_> = admins.iter().map(|way| format!("http://{}", way.at)).collect();
    Program::new(log, move |at, ops| {
        let mut validator = command("keyward-validator");
        validator.args(["--admin", &admins.join(",")]).arg("--credential-file").arg(&credential);
        validator.args(["--listen", &at.to_string(), "--ops-listen", &ops.to_string(), "--hook-listen", &hook]);
        validator.args(["--drain-delay", "0ms", "--log-format", "json"]);
        validator
    })
}
