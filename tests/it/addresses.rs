//! The rules for the addresses of other processes. They are the same wherever an address is given, because credentials
//! and tokens are sent there in plaintext.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward_client::{Admins, Client, Validators};
use keyward_tests::client::Admin;
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{command, write_secret};
use keyward_tests::process::{PATIENCE, output_of};

/// The password in the addresses below.
const SECRET: &str = "hunter2";

/// A listener that counts its connections and closes each at once.
struct Counter {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Counter {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                counted.fetch_add(1, Ordering::SeqCst);
                drop::<TcpStream>(stream);
            }
        });
        Self { at, connections }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Returns addresses that point to `at` and break one rule each, with a part of the error that names the rule.
fn hostile(at: SocketAddr) -> Vec<(String, &'static str)> {
    let port = at.port();
    vec![
        (format!("https://{at}"), "no TLS yet"),
        (format!("HTTPS://{at}"), "no TLS yet"),
        (format!("ftp://{at}"), "scheme must be http"),
        (format!("{at}"), "scheme is missing"),
        (format!("unix:{at}"), "scheme is missing"),
        (format!("http://u:{SECRET}@{at}"), "no place in an address"),
        (format!("http://{SECRET}@{at}"), "no place in an address"),
        (format!("http://{at}/{SECRET}"), "no place in an address"),
        (format!("http://{at}?{SECRET}"), "no place in an address"),
        (format!("http://{at}#{SECRET}"), "no place in an address"),
        (format!("http://:{port}"), "host is missing"),
        ("http://".to_owned(), "host is missing"),
        ("http://127.0.0.1".to_owned(), "port is missing"),
        ("http://127.0.0.1:65536".to_owned(), "1 to 65535"),
        ("http://10.0.0.1:8510".to_owned(), "beyond this machine"),
        ("http://0.0.0.0:8510".to_owned(), "beyond this machine"),
    ]
}

/// Runs a command that must refuse its address before it connects. [`ended`] limits its time, because a command that
/// accepts the address could run for ever.
fn refused(what: &str, command: &mut Command, rule: &str) -> String {
    let output = ended(command);
    let text = output_of(&output);
    assert!(!output.status.success() && text.contains(rule), "{what}: {text}");
    assert!(!text.contains(SECRET), "{what}: {text}");
    text
}

fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn secret_file(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    let token =
        keyward_token::Token::generate(&keyward_token::TokenFormat::default(), keyward_token::TokenKind::Member);
    write_secret(&path, token.unwrap().expose());
    path.display().to_string()
}

#[test]
fn no_command_connects_to_an_address_that_breaks_a_rule() {
    let dir = tempfile::tempdir().unwrap();
    let credential = secret_file(dir.path(), "credential");
    let target = Counter::start();
    let mut hostile = hostile(target.at);
    hostile.push(("http://127.0.0.1:0".to_owned(), "1 to 65535"));
    for (address, rule) in &hostile {
        let mut cli = command("keyward");
        cli.args(["projects", "list", "--admin", address, "--credential-file", &credential]);
        refused(&format!("--admin {address}"), &mut cli, rule);
        assert_eq!(ended(&mut cli).status.code(), Some(2), "{address}: an error of the command line");
        let mut cli = command("keyward");
        cli.args(["projects", "list", "--credential-file", &credential]).env("KEYWARD_ADMIN", address);
        refused(&format!("KEYWARD_ADMIN={address}"), &mut cli, rule);
        let text = output_of(&ended(cli.arg("--help")));
        assert!(!text.contains(SECRET), "help: {text}");
        for binary in [&["keyward-validator"][..], &["keyward", "validator"]] {
            let mut validator = command(binary[0]);
            validator.args(&binary[1..]).args(["--admin", address, "--credential-file", &credential]);
            for listener in ["--listen", "--hook-listen", "--ops-listen"] {
                validator.args([listener, "127.0.0.1:0"]);
            }
            refused(&format!("{binary:?} --admin {address}"), &mut validator, rule);
        }
    }
    assert_eq!(target.count(), 0, "a refused address was connected to");
    // No other rule is broken: with --insecure-plaintext, an address beyond this machine is accepted.
    let mut cli = command("keyward");
    cli.args(["projects", "list", "--admin", &format!("http://{}", target.at), "--credential-file", &credential]);
    ended(&mut cli);
    assert!(target.count() > 0, "the good address was not connected to");
}

#[test]
fn no_admin_publishes_an_address_that_breaks_a_rule() {
    let dir = tempfile::tempdir().unwrap();
    let credential = secret_file(dir.path(), "peer");
    let target = Counter::start();
    for (address, rule) in hostile(target.at) {
        let mut admin = command("keyward");
        admin.current_dir(dir.path()).args(["admin", "--database-url", "sqlite:x.db", "--keyring", "missing"]);
        admin.args(["--advertise", &address, "--peer-credential-file", &credential]);
        let text = refused(&format!("--advertise {address}"), &mut admin, rule);
        assert!(text.contains("--advertise"), "{text}");
        let text = output_of(&ended(command("keyward").args(["admin", "--help"]).env("KEYWARD_ADVERTISE", &address)));
        assert!(!text.contains(SECRET), "help: {text}");
    }
}

#[tokio::test]
async fn the_client_crate_does_not_connect_to_an_address_that_breaks_a_rule() {
    let target = Counter::start();
    let mut hostile = hostile(target.at);
    hostile.push(("http://127.0.0.1:0".to_owned(), "1 to 65535"));
    for (address, rule) in hostile.iter().filter(|(address, _)| !address.starts_with("unix:")) {
        let by_call = Client::by_call(&Validators::at([address.as_str()])).err();
        let by_stream = Client::by_stream(&Validators::at([address.as_str()])).err();
        let embedded = Client::embedded(&Admins::at([address.as_str()], "kwm_x")).err();
        for error in [by_call, by_stream, embedded] {
            let text = error.map(|error| format!("{error} {error:?}")).unwrap_or_else(|| "accepted".to_owned());
            assert!(text.contains(rule) && !text.contains(SECRET), "{address}: {text}");
        }
    }
    assert_eq!(target.count(), 0, "a refused address was connected to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_does_not_connect_to_a_peers_published_address_that_breaks_a_rule() {
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let admin = Admin::connect(process.at, &cluster.root()).await;
    let (good, bad) = (Counter::start(), Counter::start());
    let (ok, at) = (good.at, bad.at);
    let published = [
        // An earlier version published addresses with an empty path.
        format!("http://{ok}/"),
        format!("https://{at}"),
        format!("http://u:{SECRET}@{at}"),
        format!("http://{at}/{SECRET}"),
        format!("http://{at}?{SECRET}"),
    ];
    for address in published {
        // Each row stands for an admin process. The other admin sees its heartbeat change while the test runs.
        let insert = format!("INSERT INTO admin_node VALUES (gen_random_uuid(), 60000, 0, '{address}')");
        cluster.postgres.psql(&cluster.url, &insert).unwrap();
    }
    let begun = Instant::now();
    let mut number = 0;
    while good.count() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the good address was not connected to:\n{}", process.process.log());
        cluster.postgres.psql(&cluster.url, "UPDATE admin_node SET heartbeat = heartbeat + 1").unwrap();
        number += 1;
        admin.create_project(&format!("p{number}")).await.unwrap();
    }
    // A further change reaches the addresses that follow the good one in the list.
    admin.create_project("last").await.unwrap();
    assert_eq!(bad.count(), 0, "a refused address was connected to");
    assert!(!process.process.log().contains(SECRET));
}
