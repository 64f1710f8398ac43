//! Clients that hold connections without requests.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, web};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

/// Lets the test read `/proc` of the server.
const READABLE: (&str, &str) = ("KEYWARD_ALLOW_DEBUGGING", "1");

/// Descriptors and memory of a process: its open files, and its resident set in MiB.
fn held(serve: &Serve) -> (usize, u64) {
    let id = serve.process.id();
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (files, resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024)
}

/// Deactivates `count` new keys, each over a new connection. Returns the median and the longest time.
async fn deactivate(serve: &Serve, first: usize, count: usize) -> (Duration, Duration) {
    let mut times = Vec::new();
    for n in first..first + count {
        let admin = Admin::connect(serve.admin, &serve.root()).await;
        let name = format!("k{n}");
        admin.create_key("6666", &name).await.unwrap();
        let begun = Instant::now();
        admin.deactivate("6666", &name).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    (times[count / 2], times[count - 1])
}

/// Opens connections that send nothing, all at a time.
async fn idle(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    let opening: Vec<_> = (0..count).map(|_| tokio::spawn(TcpStream::connect(at))).collect();
    let mut connections = Vec::new();
    for connection in opening {
        // A listener at its limit may refuse some.
        connections.extend(connection.await.unwrap());
    }
    connections
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_of_open_files_keep_no_listener_from_answering() {
    const EACH: usize = 1_100;
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let serve =
        Serve::start_with_open_files(1_024, &["--first-request-timeout", "10s"], vec![(READABLE.0, READABLE.1.into())]);
    Admin::connect(serve.admin, &serve.root()).await.create_project("6666").await.unwrap();
    let (before, quiet) = (held(&serve), deactivate(&serve, 0, 10).await);
    let mut connections = Vec::new();
    for at in [serve.admin, serve.validator, serve.hook, serve.admin_ops, serve.validator_ops] {
        connections.extend(idle(at, EACH).await);
    }
    let (during, busy) = (held(&serve), deactivate(&serve, 10, 10).await);
    assert!(during.0 < 1_024, "{during:?}");
    for at in [serve.admin_ops, serve.validator_ops] {
        assert_eq!(web::get(at, "/readyz", &[]).await.status, 200);
    }
    ValidatorClient::connect(serve.validator).await.validate("x").await.unwrap();
    assert_eq!(web::get(serve.hook, "/auth", &[]).await.status, 401);
    // They are closed although their clients still hold them.
    let begun = Instant::now();
    while held(&serve).0 > before.0 + 50 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", held(&serve));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let closed = held(&serve);
    report::line(&format!(
        "figure: {} idle connections, ulimit -n 1024: files and MiB {before:?}, {during:?}, closed {closed:?}; deactivations p50 \
         and max {quiet:?}, {busy:?}",
        connections.len()
    ));
    assert!(!serve.process.log().contains("cannot accept a connection"));
}
