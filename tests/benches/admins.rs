//! The cost of the fence with two admins over one PostgreSQL with durable commits, and the load on the database: `cargo
//! bench --workspace --bench admins`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::time::{Duration, Instant};

use keyward_client::{Admins, Client};
use keyward_tests::client::{Admin, on_platform};
use keyward_tests::cluster::{AdminProcess, Cluster};

/// Validators in separate processes.
const PROCESSES: usize = 8;
/// Embedded replicas within this process, each with its own session over loopback.
const SESSIONS: usize = 1_000;
/// How long the database is observed without changes.
const REST: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let settings = [("fsync", "on"), ("shared_preload_libraries", "pg_stat_statements")];
    let cluster = Cluster::start_on(&settings, &[]);
    cluster.postgres.psql(&cluster.url, "CREATE EXTENSION pg_stat_statements").unwrap();
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let mut admins = Vec::new();
    for process in &processes {
        admins.push(Admin::connect(process.at, &cluster.root()).await);
    }
    admins[0].create_project("6666").await.unwrap();
    println!("PostgreSQL (fsync on), 2 admins:");
    at_rest(&cluster, 0).await;
    let validators = processes_at(&cluster, &processes);
    at_rest(&cluster, PROCESSES).await;
    measure(&cluster, &admins, &format!("{PROCESSES} validators"), PROCESSES, 1_000).await;
    drop(validators);
    let sessions = sessions_at(&admins[0], &processes).await;
    at_rest(&cluster, SESSIONS).await;
    measure(&cluster, &admins, &format!("{SESSIONS} sessions"), SESSIONS, 200).await;
    for session in sessions {
        session.leave().await;
    }
}

fn processes_at(cluster: &Cluster, admins: &[AdminProcess; 2]) -> Vec<keyward_tests::keyward::Validator> {
    (0..PROCESSES).map(|n| cluster.validator(&format!("v{n}"), &admins[0], &[admins[n % 2].at])).collect()
}

/// Connects embedded replicas, half of them to each admin, and waits until all have leases.
async fn sessions_at(admin: &Admin, admins: &[AdminProcess; 2]) -> Vec<Client> {
    let roles = [on_platform(keyward_proto::admin::Role::Validator)];
    let credential = admin.create_member("many", &roles).await.unwrap();
    let begun = Instant::now();
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        let at = format!("http://{}", admins[n % 2].at);
        sessions.push(Client::embedded(&Admins::at([at], &credential)).unwrap());
    }
    for session in &sessions {
        session.ready().await;
    }
    println!("  {SESSIONS} sessions have leases after {:?}", begun.elapsed());
    sessions
}

/// Measures the statements per second while nothing changes.
async fn at_rest(cluster: &Cluster, validators: usize) {
    let before = statements(cluster);
    tokio::time::sleep(REST).await;
    let executed = statements(cluster) - before;
    let per_second = executed as f64 / REST.as_secs_f64();
    println!("  at rest, {validators} validators: {per_second:.1} statements per second");
}

/// Returns how many statements the database has executed, including BEGIN and COMMIT.
fn statements(cluster: &Cluster) -> i64 {
    let sum = cluster.postgres.psql(&cluster.url, "SELECT sum(calls) FROM pg_stat_statements").unwrap();
    sum.trim().parse().unwrap()
}

/// Deactivates keys at both admins in turn, one after the other. Prints the duration of the calls, the part of it after
/// the commit, and the statements per deactivation.
async fn measure(cluster: &Cluster, admins: &[Admin], what: &str, validators: usize, times: usize) {
    let key = |n: usize| format!("{}_{n}", what.replace(' ', "_"));
    for n in 0..times {
        admins[0].create_key("6666", &key(n)).await.unwrap();
    }
    let (mut whole, mut fence, mut waited_out) = (Vec::new(), Vec::new(), 0);
    let (before, started) = (statements(cluster), Instant::now());
    for n in 0..times {
        let begun = Instant::now();
        let receipt = admins[n % 2].deactivate("6666", &key(n)).await.unwrap().receipt.unwrap();
        whole.push(begun.elapsed());
        fence.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap());
        waited_out += usize::from(receipt.validators_acked as usize != validators);
    }
    let (executed, took) = (statements(cluster) - before, started.elapsed());
    println!("  {what}, {times} deactivations, {waited_out} of them not on all acks:");
    println!("    the call             {}", quantiles(whole));
    println!("    of it, after commit  {}", quantiles(fence));
    println!(
        "    statements per deactivation, heartbeats of {took:.1?} among them: {:.1}",
        executed as f64 / times as f64
    );
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |permille: usize| times[((times.len() - 1) * permille).div_ceil(1_000)];
    format!("min {:?}, p50 {:?}, p99 {:?}, max {:?}", at(0), at(500), at(990), at(1_000))
}
