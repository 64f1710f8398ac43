//! The cost of the fence without faults: `cargo bench --workspace --bench fence`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::time::{Duration, Instant};

use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::Serve;

const VALIDATORS: usize = 3;
const TIMES: usize = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    measure("SQLite, no validator but its own", &admin, "none").await;
    let _validators: Vec<_> = (0..VALIDATORS).map(|n| serve.spawn_validator(&format!("edge{n}"))).collect();
    measure(&format!("SQLite, {VALIDATORS} validators and its own"), &admin, "some").await;
    drop(serve);

    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let admin = Admin::connect(process.at, &cluster.root()).await;
    admin.create_project("6666").await.unwrap();
    let name = |n| format!("v{n}");
    let _validators: Vec<_> = (0..VALIDATORS).map(|n| cluster.validator(&name(n), &process, &[process.at])).collect();
    measure(&format!("PostgreSQL (fsync off), 1 admin, {VALIDATORS} validators"), &admin, "some").await;
}

/// Deactivates keys one after the other. Prints the duration of the calls, and the part of it after the commit.
async fn measure(what: &str, admin: &Admin, prefix: &str) {
    let (mut whole, mut fence) = (Vec::new(), Vec::new());
    for n in 0..TIMES {
        let name = format!("{prefix}{n}");
        admin.create_key("6666", &name).await.unwrap();
        let begun = Instant::now();
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        whole.push(begun.elapsed());
        fence.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap());
    }
    println!("{what}, {TIMES} deactivations:");
    println!("  the call             {}", quantiles(whole));
    println!("  of it, after commit  {}", quantiles(fence));
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |permille: usize| times[((times.len() - 1) * permille).div_ceil(1_000)];
    format!("min {:?}, p50 {:?}, p99 {:?}, max {:?}", at(0), at(500), at(990), at(1_000))
}
