//! Lists of many keys, and creates by concurrent clients: `cargo bench --workspace --bench keys`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use keyward_proto::admin::ListKeysRequest;
use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::Serve;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

/// Together with the 2,000 created keys and the default key, these fill whole pages.
const KEYS: usize = 50_000 - CLIENTS * CREATES - 1;
const PAGE: i32 = 100;
const LISTS: usize = 50;

const CLIENTS: usize = 8;
const CREATES: usize = 250;

/// The columns that ListKeys reads, filled as by CreateKey.
const COLUMNS: &str = "INSERT INTO api_key (uid, project_id, key_id, state, default_key, description, platform, last4, \
                       creator, create_time, update_time, annotations, create_revision, revision)";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let serve = Serve::start();
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    admin.create_project("6666").await.unwrap();
    println!("CreateKey, {CLIENTS} clients, {CREATES} keys each:");
    create("SQLite, synchronous FULL", serve.admin, &root, &syncs(&serve.data_dir())).await;
    let durable = [("fsync", "on")];
    let cluster = Cluster::start_on(&durable, &[]);
    let process = cluster.admin("a1");
    let pg = Admin::connect(process.at, &cluster.root()).await;
    pg.create_project("6666").await.unwrap();
    create("PostgreSQL, fsync on", process.at, &cluster.root(), &syncs(&serve.data_dir())).await;
    drop((pg, process));
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let pg = Admin::connect(process.at, &cluster.root()).await;
    pg.create_project("6666").await.unwrap();
    create("PostgreSQL, fsync off", process.at, &cluster.root(), "").await;

    println!("ListKeys, 50,000 keys in one project, pages of {PAGE}, {LISTS} times each in turns:");
    let url = format!("sqlite:{}", serve.data_dir().join("keyward.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let rows = format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {KEYS})");
    let fill = format!("{COLUMNS} {rows} {}", values("randomblob(16)", "0", "n"));
    sqlx::query(AssertSqlSafe(fill)).execute(&mut database).await.unwrap();
    list("SQLite", &admin).await;
    let mut database = PgConnection::connect(&cluster.url).await.unwrap();
    let fill =
        format!("{COLUMNS} {}", values("gen_random_uuid()", "false", &format!("generate_series(1, {KEYS}) AS n (i)")));
    database.execute(AssertSqlSafe(fill)).await.unwrap();
    list("PostgreSQL", &pg).await;
}

/// Returns the SELECT that generates the rows of these keys.
fn values(uid: &str, no: &str, from: &str) -> String {
    format!(
        "SELECT {uid}, '6666', 'k' || i, 'active', {no}, 'what it is for', 'server', 'abcd', 'root', 1, 1, '{{}}', \
         1000000 + i, 1000000 + i FROM {from}"
    )
}

/// Measures how many pages per second this disk can make durable, which limits a single writer.
fn syncs(dir: &Path) -> String {
    let mut file = File::create(dir.join("baseline")).unwrap();
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 4_096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    format!("; this disk makes {count} pages a second durable, one after the other")
}

async fn create(what: &str, at: SocketAddr, credential: &str, baseline: &str) {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let credential = credential.to_owned();
            tokio::spawn(async move {
                let admin = Admin::connect(at, &credential).await;
                let mut times = Vec::new();
                for n in 0..CREATES {
                    let begun = Instant::now();
                    admin.create_key("6666", &format!("c{client}_{n}")).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    let rate = (CLIENTS * CREATES) as f64 / begun.elapsed().as_secs_f64();
    println!("  {what}: {rate:.0} a second; one takes {}{baseline}", quantiles(&mut times));
}

/// Measures the first page, the last page and a filter, in turns.
async fn list(what: &str, admin: &Admin) {
    let request = ListKeysRequest { parent: "projects/6666".to_owned(), page_size: PAGE, ..Default::default() };
    let (mut last, mut count) = (request.clone(), 0);
    loop {
        let page = admin.keys.clone().list_keys(last.clone()).await.unwrap().into_inner();
        count += page.keys.len();
        if page.next_page_token.is_empty() {
            break;
        }
        last.page_token = page.next_page_token;
    }
    assert_eq!(count % PAGE as usize, 0, "the last page is as full as the first");
    let (mut firsts, mut lasts, mut filtered) = (Vec::new(), Vec::new(), Vec::new());
    let rare = ListKeysRequest { filter: "name = k40000".to_owned(), ..request.clone() };
    for _ in 0..LISTS {
        for (request, times) in [(&request, &mut firsts), (&last, &mut lasts), (&rare, &mut filtered)] {
            let begun = Instant::now();
            admin.keys.clone().list_keys(request.clone()).await.unwrap();
            times.push(begun.elapsed());
        }
    }
    println!("  {what}, {count} keys:");
    println!("    first page  {}", quantiles(&mut firsts));
    println!("    last page   {}", quantiles(&mut lasts));
    println!("    filter that one key satisfies  {}", quantiles(&mut filtered));
    let ratio = lasts[LISTS / 2].as_secs_f64() / firsts[LISTS / 2].as_secs_f64();
    println!("    last / first {ratio:.2}");
}

/// Returns the quantiles of the times, which it sorts.
fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |permille: usize| times[((times.len() - 1) * permille).div_ceil(1_000)];
    format!("min {:?}, p50 {:?}, p99 {:?}, max {:?}", at(0), at(500), at(990), at(1_000))
}
