//! Log lines and messages that cannot be written. They are lost and counted, and everything else continues to work.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward_proto::admin::Role;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, on_platform};
use keyward_tests::keyward::{Serve, command, write_secret};
use keyward_tests::postgres::free_port;
use keyward_tests::report;
use keyward_tests::web::get;

/// A stderr that accepts no data.
#[derive(Clone, Copy, Debug)]
enum Stderr {
    /// A full disk.
    Full,
    /// A pipe whose reader has closed it.
    Closed,
    /// A pipe whose reader does not read.
    Stalled,
}

impl Stderr {
    /// Returns the end to write to, and the reader that must be kept open.
    fn open(self) -> (Stdio, Option<std::io::PipeReader>) {
        if let Self::Full = self {
            return (File::options().write(true).open("/dev/full").unwrap().into(), None);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        (writer.into(), matches!(self, Self::Stalled).then_some(reader))
    }
}

/// A server process with such a stderr; killed when dropped.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, stderr: Stdio) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
    }

    /// Waits until the readiness probe succeeds.
    async fn ready(&mut self, ops: SocketAddr, what: Stderr) {
        let begun = Instant::now();
        loop {
            assert!(self.0.try_wait().unwrap().is_none(), "{what:?}: the process has ended");
            let listens = tokio::net::TcpStream::connect(ops).await.is_ok();
            if listens && get(ops, "/readyz", &[]).await.status == 200 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what:?}: not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()))
}

/// Returns a role's metric of lost lines.
async fn lost(ops: SocketAddr, role: &str) -> u64 {
    let text = get(ops, "/metrics", &[]).await.body;
    let name = format!("keyward_{role}_log_lines_lost_total ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("no {name}in {text}"));
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_continue_and_count_lost_lines_when_their_log_cannot_be_written() {
    let admin_process = Serve::start();
    let root = Admin::connect(admin_process.admin, &admin_process.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    let credential = admin_process.data_dir().join("edge.credential");
    write_secret(&credential, root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap());
    for stderr in [Stderr::Full, Stderr::Closed, Stderr::Stalled] {
        let dir = tempfile::tempdir().unwrap();
        serve(stderr, dir.path()).await;
        validator(stderr, &admin_process, &credential, &token).await;
    }
}

async fn serve(stderr: Stderr, dir: &Path) {
    let [admin_at, validator_at, hook, admin_ops, validator_ops] = [(); 5].map(|()| free_address());
    let mut command = command("keyward");
    command.arg("serve").arg("--data-dir").arg(dir).args(["--log", "trace", "--log-format", "json"]);
    let listeners = [
        ("--admin-listen", admin_at),
        ("--validator-listen", validator_at),
        ("--hook-listen", hook),
        ("--admin-ops-listen", admin_ops),
        ("--validator-ops-listen", validator_ops),
    ];
    for (flag, at) in listeners {
        command.args([flag, &at.to_string()]);
    }
    let (end, _kept) = stderr.open();
    let mut server = Server::start(&mut command, end);
    server.ready(validator_ops, stderr).await;
    let credential = fs::read_to_string(dir.join("root.credential")).unwrap();
    let admin = Admin::connect(admin_at, credential.trim()).await;
    let client = ValidatorClient::connect(validator_at).await;
    admin.create_project("6666").await.unwrap();
    let begun = Instant::now();
    let mut keys = 0;
    while lost(admin_ops, "admin").await == 0 || lost(validator_ops, "validator").await == 0 {
        let token = admin.create_key("6666", &format!("k{keys}")).await.unwrap().token;
        assert_eq!(client.verdict(&token).await, Verdict::Valid, "{stderr:?}");
        keys += 1;
        assert!(begun.elapsed() < Duration::from_secs(60), "{stderr:?}: no line was lost");
    }
    report::line(&format!(
        "serve, {stderr:?}: {} lines lost, {keys} keys created meanwhile",
        lost(admin_ops, "admin").await
    ));
    assert!(server.0.try_wait().unwrap().is_none());
}

async fn validator(stderr: Stderr, admin_process: &Serve, credential: &Path, token: &str) {
    let [grpc, hook, ops] = [(); 3].map(|()| free_address());
    let mut command = command("keyward-validator");
    command.args(["--admin", &format!("http://{}", admin_process.admin), "--log", "trace"]);
    command.arg("--credential-file").arg(credential);
    for (flag, at) in [("--listen", grpc), ("--hook-listen", hook), ("--ops-listen", ops)] {
        command.args([flag, &at.to_string()]);
    }
    let (end, _kept) = stderr.open();
    let mut server = Server::start(&mut command, end);
    server.ready(ops, stderr).await;
    let begun = Instant::now();
    let client = ValidatorClient::connect(grpc).await;
    while lost(ops, "validator").await == 0 {
        assert_eq!(client.verdict(token).await, Verdict::Valid, "{stderr:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{stderr:?}: no line was lost");
    }
    assert!(server.0.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_print_the_token_even_if_their_messages_cannot_be_written() {
    let serve = Serve::start();
    let run = |arguments: &[&str], stderr: Stderr| {
        let (end, _kept) = stderr.open();
        serve.operator(arguments).stderr(end).output().unwrap()
    };
    for (n, stderr) in [Stderr::Full, Stderr::Closed].into_iter().enumerate() {
        let project = format!("{n}666");
        let commands: [&[&str]; 5] = [
            &["projects", "create", &project],
            &["keys", "create", "server_prod", "--project", &project],
            &["keys", "rotate", "server_prod", "--to", "next", "--project", &project],
            &["members", "create", &format!("alice{n}"), "--role", "support"],
            &["members", "issue-credential", &format!("alice{n}")],
        ];
        for arguments in commands {
            let output = run(arguments, stderr);
            assert!(output.status.success() && output.stdout.starts_with(b"kw"), "{arguments:?}: {output:?}");
        }
        assert!(run(&["keys", "deactivate", "server_prod", "--project", &project], stderr).status.success());
        // A failure is reported by the exit code alone.
        assert_eq!(run(&["keys", "get", "none", "--project", &project], stderr).status.code(), Some(3));
    }
}
