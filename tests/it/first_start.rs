//! The first starts of `keyward serve`, and the data directories on which it refuses to start.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use keyward_proto::admin::key::State;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::keyward::{Serve, command, last_event};
use keyward_tests::process::Process;
use keyward_tests::report;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Arguments that put every listener on a free port.
const LISTENERS: [&str; 5] = [
    "--admin-listen=127.0.0.1:0",
    "--validator-listen=127.0.0.1:0",
    "--hook-listen=127.0.0.1:0",
    "--admin-ops-listen=127.0.0.1:0",
    "--validator-ops-listen=127.0.0.1:0",
];

#[test]
fn without_a_terminal_the_credentials_file_is_named_and_the_credential_is_not_shown() {
    let mut serve = Serve::start();
    let root = serve.root();
    let out = serve.process.wait_for("the greeting", |p| p.out().contains("/auth").then(|| p.out()));
    assert!(out.contains(serve.credential_file().to_str().unwrap()), "{out}");
    assert!(!out.contains(&root) && !serve.process.log().contains(&root));
    for next in ["projects create 6666", "keys create server_prod --project 6666", "curl -i -H \"x-api-key: $TOKEN\""] {
        assert!(out.contains(next), "{out}");
    }
}

#[test]
fn on_a_terminal_the_credential_is_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = greeting_on_a_terminal(&dir.path().join("data"));
    let root = std::fs::read_to_string(dir.path().join("data/root.credential")).unwrap();
    assert!(first.contains(root.trim()), "{first}");
    let second = greeting_on_a_terminal(&dir.path().join("data"));
    assert!(!second.contains(root.trim()) && second.contains("root.credential"), "{second}");
}

/// Returns what `keyward serve` prints on a terminal, up to the end of its greeting.
fn greeting_on_a_terminal(data_dir: &std::path::Path) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side: OwnedFd = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
    let mut serve = command("keyward");
    serve.arg("serve").arg("--data-dir").arg(data_dir).stdin(Stdio::null()).stdout(side).stderr(Stdio::null());
    let mut child = serve.args(LISTENERS).spawn().unwrap();
    // `Command` holds the terminal's other side open, and the read would never end.
    drop(serve);
    let (mut screen, mut shown) = (std::fs::File::from(terminal), Vec::new());
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&shown).contains("/auth") {
        match screen.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => shown.extend_from_slice(&buffer[..read]),
        }
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

#[tokio::test]
async fn a_second_start_keeps_every_key_and_its_first_deactivation_needs_no_wait() {
    const KEYS: usize = 1_000;
    let serve = Serve::start();
    let first_ready = serve.ready_ms();
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    let default_token = admin.create_project("6666").await.unwrap().default_token;
    let mut tokens = Vec::new();
    for n in 1..KEYS {
        tokens.push(admin.create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    admin.deactivate("6666", "k1").await.unwrap();

    let serve = serve.restart(false);
    report::line(&format!("figure: start to ready: {first_ready} ms empty, {} ms with {KEYS} keys", serve.ready_ms()));
    assert_eq!(serve.root(), root);
    let admin = Admin::connect(serve.admin, &root).await;
    let client = ValidatorClient::connect(serve.validator).await;
    let keys = admin.list("6666", 300).await.unwrap();
    assert_eq!(keys.len(), KEYS);
    assert_eq!(keys.iter().filter(|k| k.state() == State::Deactivated).count(), 1);
    assert_eq!(client.verdict(&default_token).await, Verdict::Valid);
    assert_eq!(client.verdict(&tokens[0]).await, Verdict::Deactivated);
    for token in &tokens[1..] {
        assert_eq!(client.verdict(token).await, Verdict::Valid);
    }
    let receipt = admin.deactivate("6666", "k2").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 1));
    assert_eq!(client.verdict(&tokens[1]).await, Verdict::Deactivated);
}

/// Returns the error with which `keyward serve` refuses to start on that directory.
fn refusal(data_dir: &std::path::Path) -> String {
    let output = command("keyward").args(["serve", "--data-dir"]).arg(data_dir).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let serve = Serve::start();
    let error = refusal(&serve.data_dir());
    assert!(error.contains("another keyward process uses"), "{error}");
}

#[test]
fn serve_does_not_start_with_a_wrong_or_missing_keyring() {
    let (mut one, mut other) = (Serve::start(), Serve::start());
    one.process.terminate();
    other.process.terminate();
    let keyring = one.data_dir().join("keyring");
    std::fs::copy(other.data_dir().join("keyring"), &keyring).unwrap();
    let error = refusal(&one.data_dir());
    assert!(error.contains("this keyring is not the one"), "{error}");
    std::fs::remove_file(&keyring).unwrap();
    let error = refusal(&one.data_dir());
    assert!(error.contains("keyring is missing"), "{error}");
    assert!(!keyring.exists(), "a new keyring would make every token unknown");
}

#[test]
fn all_configuration_errors_are_listed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let output = command("keyward")
        .args(["serve", "--lease", "1w", "--data-dir"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 10s, 2500ms, 5m, 24h or 7d"));
    let output = command("keyward")
        .args(["serve", "--lease", "999s", "--admin-listen", "0.0.0.0:0", "--hook-listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("3 faults") && error.contains("--insecure-plaintext"), "{error}");
    assert!(!dir.path().join("data").exists(), "a refused start leaves nothing behind");

    let file = dir.path().join("keyward.toml");
    std::fs::write(&file, "data_dir = \"x\"\nadmin_listne = \"127.0.0.1:1\"\n").unwrap();
    let output = command("keyward").arg("serve").arg("--config").arg(&file).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("admin_listne"), "{error}");
}

/// One of several concurrent first starts wins, and its keyring is the one that stays.
#[test]
fn concurrent_first_starts_make_one_keyring() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || {
        let mut serve = command("keyward");
        serve
            .arg("serve")
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        serve.args(LISTENERS).spawn().unwrap()
    };
    let mut starts: Vec<_> = (0..4).map(|_| start()).collect();
    // All but one end by themselves.
    let begun = std::time::Instant::now();
    while starts.len() > 1 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{} of them run", starts.len());
        starts.retain_mut(|child| child.try_wait().unwrap().is_none());
    }
    let mut winner = starts.pop().unwrap();
    while !data.join("root.credential").exists() {
        assert!(winner.try_wait().unwrap().is_none(), "the last process ended too");
    }
    // The signal may arrive at any moment of the start; the process must still end gracefully.
    kill_process(Pid::from_child(&winner), Signal::TERM).unwrap();
    winner.wait().unwrap();
    let mut again = command("keyward");
    again.arg("serve").arg("--data-dir").arg(&data).args(["--log-format", "json"]).args(LISTENERS);
    let mut again = Process::start(&mut again, &dir.path().join("again.log"));
    again.wait_for("readiness", |p| last_event(&p.log(), "ready"));
    again.terminate();
}
