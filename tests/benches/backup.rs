//! Backup, restore and first start of an embedded database with 100,000 keys, while clients create keys:
//! `cargo bench --workspace --bench backup`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_domain::{KeyDraft, KeyId, KeyName, MemberId, Permission, ProjectId, Uid};
use keyward_proto::validate::Verdict;
use keyward_store::{Call, SealedSecret, SecretRecord, Store};
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::keyward::{Serve, command};
use keyward_tests::process::output_of;
use keyward_token::{Digest, Keyring, context};
use tokio::task::JoinHandle;

/// The number of keys before the backup.
const KEYS: usize = 100_000;
/// Clients that create keys during the backup.
const CLIENTS: usize = 4;
/// How long these clients run alone, for comparison.
const ALONE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let first = admin.create_key("6666", "first").await.unwrap().token;
    drop(admin);
    let fill = |data: &Path| tokio::runtime::Handle::current().block_on(Box::pin(fill(data)));
    let serve = tokio::task::block_in_place(|| serve.restart_on(false, fill));

    let alone = Load::start(serve.admin, &serve.root(), "alone").await;
    tokio::time::sleep(ALONE).await;
    alone.end("creates without a backup").await;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.tar");
    let load = Load::start(serve.admin, &serve.root(), "beside").await;
    let (data, to) = (serve.data_dir(), file.clone());
    timed("keyward backup, under load", command("keyward").arg("backup").arg(to).arg("--data-dir").arg(data)).await;
    load.end("creates during the backup").await;

    // The original goes on, idle.
    let mut filled = Instant::now();
    let restored = tokio::task::block_in_place(|| {
        Serve::start_on(|data| {
            let mut restore = command("keyward");
            run("keyward restore", restore.arg("restore").arg(&file).arg("--data-dir").arg(data));
            filled = Instant::now();
        })
    });
    println!("{:<28} {:.1} s", "first start, until ready", filled.elapsed().as_secs_f64());
    let validator = ValidatorClient::connect(restored.validator).await;
    assert_eq!(validator.verdict(&first).await, Verdict::Valid);
    timed("keyward audit verify", &mut restored.operator(&["audit", "verify"])).await;
}

/// Creates the keys by the store alone, with as many bytes as the admin would write.
async fn fill(data: &Path) {
    let begun = Instant::now();
    let keyring = Keyring::parse(&std::fs::read_to_string(data.join("keyring")).unwrap()).unwrap();
    let chain_key = keyring.current_digest().derive(context::AUDIT_CHAIN);
    let store = Store::open(&format!("sqlite:{}", data.join("keyward.db").display()), chain_key).await.unwrap();
    let project = ProjectId::parse("6666").unwrap();
    let call = Call {
        actor: MemberId::root(),
        credential: None,
        permission: Permission::KeyCreate,
        scope: Some(project.clone()),
        request: None,
    };
    for n in 0..KEYS {
        let name = KeyName { project: project.clone(), key: KeyId::parse(&format!("k{n}")).unwrap() };
        let draft = KeyDraft::new(name, "Made for a benchmark".to_owned(), "", None, BTreeMap::new()).unwrap();
        let secret = SecretRecord {
            uid: Uid::generate(),
            digest: Digest::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes()),
            digest_key_id: keyring.current_digest().id(),
            last4: "abcd".to_owned(),
            sealed: Some(SealedSecret { key_id: keyring.current_sealing().unwrap().id(), bytes: vec![7; 96] }),
        };
        store.create_key(&call, &draft, &secret).await.unwrap();
    }
    store.close().await;
    println!("{KEYS} keys created in {:.0} s", begun.elapsed().as_secs_f64());
}

/// Clients that create keys until they are ended.
struct Load {
    stop: Arc<AtomicBool>,
    begun: Instant,
    clients: Vec<JoinHandle<Vec<Duration>>>,
}

impl Load {
    async fn start(at: SocketAddr, credential: &str, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (admin, stop) = (Admin::connect(at, credential).await, Arc::clone(&stop));
            let name = format!("{name}{client}");
            clients.push(tokio::spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    admin.create_key("6666", &format!("{name}_{}", times.len())).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            }));
        }
        Self { stop, begun: Instant::now(), clients }
    }

    /// Ends the clients, and prints the times of their calls.
    async fn end(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut times = Vec::new();
        for client in self.clients {
            times.extend(client.await.unwrap());
        }
        times.sort_unstable();
        let at = |permille: usize| times[((times.len() - 1) * permille).div_ceil(1_000)];
        let rate = times.len() as f64 / seconds;
        println!("{what:<28} {rate:.0} a second; p50 {:?}, p99 {:?}, max {:?}", at(500), at(990), at(1_000));
    }
}

/// Runs a command to its end beside the clients.
async fn timed(what: &'static str, command: &mut Command) {
    let program = command.get_program().to_owned();
    let mut own = Command::new(program);
    own.args(command.get_args());
    tokio::task::spawn_blocking(move || run(what, &mut own)).await.unwrap();
}

/// Runs a command to its end, and prints how long it took and its first lines.
fn run(what: &str, command: &mut Command) {
    let begun = Instant::now();
    let output = command.output().unwrap();
    let text = output_of(&output);
    assert!(output.status.success(), "{what}: {text}");
    println!("{what:<28} {:.1} s", begun.elapsed().as_secs_f64());
    for line in text.lines().take(2) {
        println!("    {}", line.rsplit_once('/').map_or(line, |(_, end)| end));
    }
}
