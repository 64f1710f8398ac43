//! Secrets in the memory of Keyward's processes, and access to that memory.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyward_proto::admin::ListKeysRequest;
use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{Serve, command, last_event, write_secret};
use keyward_tests::process::Process;

/// The environment variable that leaves a process open to debuggers, as far as the machine allows.
const DEBUG: &str = "KEYWARD_ALLOW_DEBUGGING";

/// Returns the soft and the hard limit for core files.
fn core_limit(process: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().skip(4).take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_process_writes_core_files() {
    let serve = Serve::start();
    let validator = serve.spawn_validator("edge");
    let cluster = Cluster::start(&[]);
    let admin = cluster.admin("a1");
    // The listener never answers, so the operator's command waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cli = command("keyward");
    cli.args(["projects", "list", "--admin", &format!("http://{}", listener.local_addr().unwrap())]);
    cli.arg("--credential-file").arg(serve.credential_file()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut cli = cli.spawn().unwrap();
    let stream = listener.accept().unwrap();
    for (what, process) in [
        ("serve", serve.process.id()),
        ("validator", validator.process.id()),
        ("admin", admin.process.id()),
        ("operator's command", cli.id()),
    ] {
        assert_eq!(core_limit(process), "0 0", "{what}");
    }
    drop(stream);
    cli.kill().unwrap();
    cli.wait().unwrap();
}

/// Needs root, as in CI: the memory must be read as another user.
#[test]
fn no_process_of_the_same_user_can_read_the_memory_of_another() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let reads = |process: u32| {
        let mut cat = Command::new("cat");
        cat.arg(format!("/proc/{process}/environ")).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        cat.uid(NOBODY).gid(NOBODY).status().unwrap().success()
    };
    for binary in ["keyward", "keyward-validator"] {
        fs::copy(command(binary).get_program(), dir.path().join(binary)).unwrap();
    }
    let credential = dir.path().join("credential");
    let token = keyward_token::Token::generate(&Default::default(), keyward_token::TokenKind::Member).unwrap();
    write_secret(&credential, token.expose());
    std::os::unix::fs::chown(&credential, Some(NOBODY), Some(NOBODY)).unwrap();
    for debug in [false, true] {
        for (name, arguments, ready) in [
            ("serve", vec!["keyward", "serve", "--data-dir", "data"], "ready"),
            ("validator", vec!["keyward-validator", "--admin", "http://127.0.0.1:1"], "the validator listens"),
            (
                "keyward validator",
                vec!["keyward", "validator", "--admin", "http://127.0.0.1:1"],
                "the validator listens",
            ),
        ] {
            let mut role = Command::new(dir.path().join(arguments[0]));
            role.args(&arguments[1..]).args(["--log-format", "json"]).current_dir(dir.path()).uid(NOBODY).gid(NOBODY);
            if name == "serve" {
                role.args(["--admin-listen", "127.0.0.1:0", "--validator-listen", "127.0.0.1:0"]);
                // The process sets its socket's mode through its own files under /proc, which must still work.
                role.arg("--hook-listen").arg(format!("unix:{}", dir.path().join("hook.sock").display()));
                role.args(["--admin-ops-listen", "127.0.0.1:0", "--validator-ops-listen", "127.0.0.1:0"]);
            } else {
                role.args(["--listen", "127.0.0.1:0", "--hook-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
                role.arg("--credential-file").arg(&credential);
            }
            if debug {
                role.env(DEBUG, "1");
            }
            let mut process = Process::start(&mut role, &dir.path().join(format!("{name} {debug}.log")));
            process.wait_for("readiness", |p| last_event(&p.log(), ready));
            let owner = fs::metadata(format!("/proc/{}/environ", process.id())).unwrap().uid();
            assert_eq!(owner, if debug { NOBODY } else { 0 }, "{name}, debugging {debug}");
            assert_eq!(reads(process.id()), debug, "{name}, debugging {debug}");
        }
    }
}

/// Counts the occurrences of a text in the memory of a process.
fn copies(process: u32, text: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let (text, mut count) = (text.as_bytes(), 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        if !rights.starts_with("rw") || memory.seek(SeekFrom::Start(start)).is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        // A part that cannot be read, such as a guard page, ends the range.
        let _ = (&mut memory).take(end - start).read_to_end(&mut bytes);
        let first = text[0];
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
            at += next;
            count += usize::from(bytes[at..].starts_with(text));
            at += 1;
        }
    }
    count
}

fn start(dir: &Path) -> (Process, std::net::SocketAddr) {
    let mut serve = command("keyward");
    serve.arg("serve").arg("--data-dir").arg(dir.join("data")).args(["--log-format", "json"]).env(DEBUG, "1");
    for listener in
        ["--admin-listen", "--validator-listen", "--hook-listen", "--admin-ops-listen", "--validator-ops-listen"]
    {
        serve.args([listener, "127.0.0.1:0"]);
    }
    let mut process = Process::start(&mut serve, &dir.join("serve.log"));
    process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
    let at = keyward_tests::keyward::address(&last_event(&process.log(), "listening").unwrap(), "admin");
    (process, at)
}

/// How many copies may remain when no call is in flight and every connection has ended.
const MOST_AT_REST: usize = 2;
/// Length of a header value, `Bearer kwm_` and the rest, in bytes.
const HEADER: usize = 60;
/// How many copies may remain for each open connection, whatever the number of its calls. The HPACK decoder of h2
/// decodes into a buffer of 4 KiB and takes another one when that is full. The first buffer stays in memory, because
/// the header table refers to other headers in it.
const MOST_OF_A_CONNECTION: usize = 2 * 4_096 / HEADER + 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_credential_do_not_accumulate_in_memory() {
    const CALLS: usize = 3_000;
    const CONNECTIONS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let (process, at) = start(dir.path());
    let root = fs::read_to_string(dir.path().join("data/root.credential")).unwrap().trim().to_owned();
    // The prefix is left out, because it occurs elsewhere too.
    let secret = &root[4..];
    let begun = copies(process.id(), secret);
    assert!(begun <= MOST_AT_REST, "{begun} copies after the start");
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Admin::connect(at, &root).await);
    }
    open[0].create_project("6666").await.unwrap();
    for call in 0..CALLS {
        let request = ListKeysRequest { parent: "projects/6666".to_owned(), ..Default::default() };
        open[call % CONNECTIONS].keys.clone().list_keys(request).await.unwrap();
    }
    let busy = copies(process.id(), secret);
    drop(open);
    let waited = Instant::now();
    let mut rest = copies(process.id(), secret);
    while rest > MOST_AT_REST && waited.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rest = copies(process.id(), secret);
    }
    println!(
        "copies of a credential: {begun} at the start, {busy} with {CONNECTIONS} connections after {CALLS} calls, {rest} afterwards"
    );
    assert!(busy <= MOST_AT_REST + CONNECTIONS * MOST_OF_A_CONNECTION, "{busy} copies with {CONNECTIONS} connections");
    assert!(rest <= MOST_AT_REST, "{rest} copies at rest");
}
