//! The time until a new validator serves a million keys, and the memory that it needs: `cargo bench --workspace --bench
//! snapshot`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::time::Instant;

use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::keyward::Serve;
use keyward_tests::process::Process;
use sqlx::{Connection, Executor, SqliteConnection};

const KEYS: u32 = 1_000_000;
const TIMES: usize = 5;

/// Inserts keys with the columns that a validator reads, filled as by CreateKey.
const FILL: &str = "
    INSERT INTO api_key (uid, project_id, key_id, state, default_key, description, platform, last4, creator,
        create_time, update_time, annotations, create_revision, revision)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    SELECT randomblob(16), '6666', 'k' || i, 'active', 0, '', 'server', 'abcd', 'root', 1, 1, '{}', 2, 2 FROM n;
";
const FILL_TOKENS: &str = "
    INSERT INTO key_token (digest, digest_key_id, key_uid, generation, create_time)
    SELECT randomblob(32), 1, uid, 1, 1 FROM api_key WHERE default_key = 0;
";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut serve = Serve::start();
    let root = serve.root();
    let token = Admin::connect(serve.admin, &root).await.create_project("6666").await.unwrap().default_token;
    serve.process.terminate();
    let url = format!("sqlite:{}", serve.data_dir().join("keyward.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(FILL).bind(KEYS).execute(&mut database).await.unwrap();
    database.execute(FILL_TOKENS).await.unwrap();
    database.close().await.unwrap();

    let begun = Instant::now();
    let serve = serve.restart(true);
    println!("{KEYS} keys, admin and a validator of its own in one process (SQLite):");
    println!("  start to ready {:?}, memory {} MiB", begun.elapsed(), memory(&serve.process, "VmRSS"));
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for n in 0..TIMES {
        let begun = Instant::now();
        let validator = serve.spawn_validator(&format!("edge{n}"));
        times.push(begun.elapsed());
        ValidatorClient::connect(validator.grpc).await.validate(&token).await.unwrap();
        memories.push(memory(&validator.process, "VmRSS"));
    }
    times.sort_unstable();
    memories.sort_unstable();
    println!("a fresh validator, {TIMES} times, from before its credential is made until it serves:");
    println!("  min {:?}, median {:?}, max {:?}", times[0], times[TIMES / 2], times[TIMES - 1]);
    println!("  its memory {} to {} MiB", memories[0], memories[TIMES - 1]);
    println!("admin while it streamed: at most {} MiB", memory(&serve.process, "VmHWM"));
}

/// Returns a line of /proc/PID/status, in MiB.
fn memory(process: &Process, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let kib = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
