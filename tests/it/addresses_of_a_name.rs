//! A name of admins that has several addresses.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use keyward_tests::client::Admin;
use keyward_tests::keyward::{Serve, command, last_event, write_secret};
use keyward_tests::process::Process;

/// The addresses of the name `admins.test`, in the order in which a resolver returns them.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// The longest time until a validator is ready: some attempts of 2 s, and the delays of a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a command that runs `inner` where the name `admins.test` has these addresses: in a mount namespace with a hosts file
/// of its own.
fn with_the_name(hosts: &std::path::Path, inner: &Command) -> Command {
    let lines = ADDRESSES.map(|address| format!("{address} admins.test\n")).concat();
    std::fs::write(hosts, format!("127.0.0.1 localhost\n{lines}")).unwrap();
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    outer.arg(hosts).arg(inner.get_program()).args(inner.get_args());
    outer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_reaches_an_admin_behind_any_address_of_a_name_although_another_address_hangs() {
    for (admin_at, hung_at) in [(ADDRESSES[1], ADDRESSES[0]), (ADDRESSES[0], ADDRESSES[1])] {
        let serve = Serve::start_with(&["--admin-listen", &format!("{admin_at}:0"), "--lease", "2s"]);
        // Connections to it are accepted by the kernel, and never answered.
        let _hung = TcpListener::bind((hung_at, serve.admin.port())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential");
        let made =
            serve.operator(&["members", "create", "edge", "--role", "validator", "--insecure-plaintext"]).output();
        write_secret(&credential, made.unwrap().stdout);
        let mut validator = command("keyward-validator");
        validator.args(["--admin", &format!("http://admins.test:{}", serve.admin.port()), "--insecure-plaintext"]);
        validator.arg("--credential-file").arg(&credential).args(["--log-format", "json"]);
        for flag in ["--listen", "--hook-listen", "--ops-listen"] {
            validator.args([flag, "127.0.0.1:0"]);
        }
        let begun = Instant::now();
        let mut validator = with_the_name(&dir.path().join("hosts"), &validator);
        let mut process = Process::start(&mut validator, &dir.path().join("validator.log"));
        process.wait_for("readiness", |p| last_event(&p.log(), "the validator is ready"));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert!(process.log().contains(&format!("admins.test:{0} at {admin_at}:{0}", serve.admin.port())));
        // The session is one in which changes are acknowledged.
        let root = Admin::connect(serve.admin, &serve.root()).await;
        root.create_project("6666").await.unwrap();
        root.create_key("6666", "a").await.unwrap();
        let receipt = root.deactivate("6666", "a").await.unwrap().receipt.unwrap();
        assert_eq!((receipt.validators_acked, receipt.validators_lapsed), (2, 0), "{receipt:?}");
        process.terminate();
    }
}
