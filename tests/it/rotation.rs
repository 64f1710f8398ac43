//! Secrets that are rotated while processes use them, and files with invalid secrets.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward_client::{Admins, Client, Expectation};
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{IssueCredentialRequest, RevokeCredentialRequest};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::cluster::{AdminProcess, Cluster};
use keyward_tests::keyward::{Serve, address, command, last_event, start_validator, write_secret};
use keyward_tests::postgres::PASSWORD;
use keyward_tests::process::{PATIENCE, Process, output_of};

const LEASE: [&str; 2] = ["--lease", "2s"];

/// Issues a second credential for a member. Returns it, and the name of the first.
async fn rotate(admin: &Admin, member: &str) -> (String, String) {
    let name = format!("members/{member}");
    let request = IssueCredentialRequest { name, ..Default::default() };
    let issued = admin.members.clone().issue_credential(request).await.unwrap().into_inner();
    let old = issued.member.unwrap().credentials.into_iter().next().unwrap().name;
    (issued.credential, old)
}

async fn revoke(admin: &Admin, name: String) {
    admin.members.clone().revoke_credential(RevokeCredentialRequest { name }).await.unwrap();
}

async fn until_valid(client: &ValidatorClient, token: &str) {
    let begun = Instant::now();
    while !client.validate(token).await.is_ok_and(|answer| answer.verdict() == Verdict::Valid) {
        assert!(begun.elapsed() < PATIENCE, "the validator did not recover");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sessions(process: &Process) -> usize {
    process.log().matches("session begins").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_picks_up_a_rotated_credential_without_a_restart() {
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let mut edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(edge.grpc).await;
    let file = serve.data_dir().parent().unwrap().join("edge.credential");
    // The new credential is written before the old one is revoked.
    let (new, old) = rotate(&admin, "edge").await;
    write_secret(&file, format!("{new}\n"));
    let before = sessions(&edge.process);
    revoke(&admin, old).await;
    edge.process.wait_for("a session with the new credential", |p| (sessions(p) > before).then_some(()));
    until_valid(&client, &token).await;
    // The old credential is revoked before the new one is written, and the file first holds an invalid one.
    let (newest, old) = rotate(&admin, "edge").await;
    write_secret(&file, "hello");
    let before = sessions(&edge.process);
    revoke(&admin, old).await;
    let rule = format!("{} does not hold a member's credential", file.display());
    edge.process.wait_for("the fault of the file", |p| p.log().contains(&rule).then_some(()));
    edge.process.wait_for("refusals", |p| (p.log().matches("not connected to an admin").count() > 2).then_some(()));
    write_secret(&file, &newest);
    edge.process.wait_for("a session with the newest credential", |p| (sessions(p) > before).then_some(()));
    until_valid(&client, &token).await;
    let log = edge.process.log();
    assert_eq!(log.matches(&rule).count(), 1, "a fault is logged once:\n{log}");
    assert!(!log.contains("hello") && !log.contains(&newest) && !log.contains(&new), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_credential_file_leaves_the_session_and_the_last_credential_in_use() {
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let mut edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(edge.grpc).await;
    let file = serve.data_dir().parent().unwrap().join("edge.credential");
    write_secret(&file, "\u{feff}kwm_hunter2");
    let before = sessions(&edge.process);
    let _serve = serve.restart(false);
    edge.process.wait_for("another session", |p| (sessions(p) > before).then_some(()));
    until_valid(&client, &token).await;
    let log = edge.process.log();
    let rule = format!("{} begins with a byte order mark", file.display());
    assert!(
        log.contains(&rule) && log.contains("the previous credential stays in use") && !log.contains("hunter2"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_replica_picks_up_a_rotated_credential_without_a_restart() {
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let made = serve.operator(&["members", "create", "service", "--role", "validator"]).output().unwrap();
    let file = serve.data_dir().join("service.credential");
    write_secret(&file, made.stdout);
    let reads = Arc::new(AtomicUsize::new(0));
    let (counted, path) = (Arc::clone(&reads), file.clone());
    let read = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::fs::read_to_string(&path)
    };
    let client = Client::embedded(&Admins::reading([format!("http://{}", serve.admin)], read)).unwrap();
    client.ready().await;
    let (new, old) = rotate(&admin, "service").await;
    write_secret(&file, new);
    let before = reads.load(Ordering::SeqCst);
    revoke(&admin, old).await;
    let begun = Instant::now();
    // The loop lasts longer than the lease of the ended session.
    while begun.elapsed() < Duration::from_secs(3) || client.validate(&token, &Expectation::default()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the validator did not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(reads.load(Ordering::SeqCst) > before);
    client.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admins_pick_up_a_rotated_peer_credential_without_a_restart() {
    let cluster = Cluster::start(&["--lease", "5s"]);
    let (first, _second) = (cluster.admin("a1"), cluster.admin("a2"));
    let admin = Admin::connect(first.at, &cluster.root()).await;
    admin.create_project("6666").await.unwrap();
    let by = async |key: &str| {
        admin.create_key("6666", key).await.unwrap();
        admin.deactivate("6666", key).await.unwrap().receipt.unwrap().enforced_by()
    };
    // Waits until each admin has seen the other's heartbeat.
    let begun = Instant::now();
    let mut number = 0;
    while by(&format!("before{number}")).await != EnforcedBy::Acks {
        assert!(begun.elapsed() < PATIENCE, "the admins do not call each other");
        number += 1;
    }
    let (new, old) = rotate(&admin, "admins").await;
    write_secret(&cluster.peer_credential(), new);
    revoke(&admin, old).await;
    assert_eq!(by("after").await, EnforcedBy::Acks, "the admins no longer call each other");
}

fn start_with_url_file(cluster: &Cluster, file: &Path, log: &Path) -> AdminProcess {
    let mut admin = command("keyward");
    admin.arg("admin").arg("--database-url-file").arg(file).arg("--keyring").arg(cluster.keyring());
    admin.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut process = Process::start(&mut admin, log);
    process.wait_for("readiness", |p| last_event(&p.log(), "ready"));
    let at = last_event(&process.log(), "listening").unwrap();
    AdminProcess { at: address(&at, "admin"), ops: address(&at, "admin_ops"), process }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_picks_up_a_changed_database_password_without_a_restart() {
    const NEW: &str = "another-throw-away";
    let cluster = Cluster::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    write_secret(&file, format!("{}\n", cluster.url));
    let mut process = start_with_url_file(&cluster, &file, &dir.path().join("admin.log"));
    let admin = Admin::connect(process.at, &cluster.root()).await;
    admin.create_project("before").await.unwrap();
    let logged = |process: &mut AdminProcess, text: &str| {
        process.process.wait_for(text, |p| p.log().contains(text).then_some(()));
    };
    // First a text that is no URL, then the URL of another database.
    write_secret(&file, "hello");
    logged(&mut process, "the previous URL stays in use");
    write_secret(&file, cluster.postgres.database("another").unwrap());
    logged(&mut process, "names another host, port or database");
    // Then a URL with a password that the server does not accept yet.
    let new = cluster.url.replace(PASSWORD, NEW);
    write_secret(&file, &new);
    logged(&mut process, "password authentication failed");
    admin.create_project("meanwhile").await.unwrap();
    cluster.postgres.psql(&cluster.url, &format!("ALTER ROLE keyward PASSWORD '{NEW}'")).unwrap();
    logged(&mut process, "the database URL was changed");
    // Ends every connection that was opened with the old password.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'keyward' AND pid <> pg_backend_pid()";
    cluster.postgres.psql(&new, end).unwrap();
    let begun = Instant::now();
    while admin.create_project("after").await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the admin did not recover:\n{}", process.process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = process.process.log();
    assert!(!log.contains(PASSWORD) && !log.contains(NEW) && !log.contains("hello"), "{log}");
}

/// Returns invalid contents of a credential file, each with a part of the error that names the rule.
fn invalid(credential: &str, token: &str) -> Vec<(String, &'static str)> {
    // One in 62 credentials ends with an x.
    let other = if credential.ends_with('x') { 'y' } else { 'x' };
    vec![
        (String::new(), "is empty"),
        ("\n \n".to_owned(), "is empty"),
        (format!("\u{feff}{credential}\n"), "byte order mark"),
        ("hello".to_owned(), "does not hold a member's credential"),
        (format!("{credential} \n"), "space around the credential"),
        (format!("{credential}\n\n"), "space around the credential"),
        (format!("{credential}\n{credential}\n"), "more than one line"),
        (format!("{token}\n"), "holds a key's token"),
        (format!("Bearer {credential}"), "does not hold a member's credential"),
        (credential[..credential.len() - 1].to_owned(), "wrong length"),
        (format!("{}{other}", &credential[..credential.len() - 1]), "checksum"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_credential_file_is_refused_at_the_start_with_its_name_and_the_rule() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let made = serve.operator(&["members", "create", "edge", "--role", "validator"]).output().unwrap();
    let credential = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("credential");
    let at = format!("http://{}", serve.admin);
    for (content, rule) in invalid(&credential, &token) {
        write_secret(&file, &content);
        let mut validator = command("keyward-validator");
        validator.args(["--admin", &at, "--credential-file"]).arg(&file);
        validator.args(["--listen", "127.0.0.1:0", "--hook-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        let mut cli = command("keyward");
        cli.args(["members", "whoami", "--admin", &at, "--credential-file"]).arg(&file);
        let mut peer = command("keyward");
        peer.current_dir(dir.path()).args(["admin", "--database-url", "sqlite:x", "--keyring", "none"]);
        peer.args(["--advertise", "http://127.0.0.1:1", "--peer-credential-file"]).arg(&file);
        let mut init = command("keyward");
        init.current_dir(dir.path()).args(["init", "--database-url", "sqlite:x.db", "--keyring", "keyring"]);
        init.arg("--root-credential").arg(&file);
        for (what, mut command) in [("validator", validator), ("operator", cli), ("peer", peer), ("init", init)] {
            let text = ended(&mut command);
            let named = text.contains(&format!("{} ", file.display())) && text.contains(rule);
            assert!(named, "{what}, {content:?}: {text}");
            assert!(
                !text.contains("hello") && !text.contains(&credential[4..30]) && !text.contains(&token[4..30]),
                "{text}"
            );
        }
    }
    // One line break of either kind at the end, or none, is accepted.
    for content in [credential.clone(), format!("{credential}\n"), format!("{credential}\r\n")] {
        write_secret(&file, content);
        drop(start_validator(dir.path(), "good", &file, &[serve.admin], &[]));
    }
}

/// Runs a command that must end within 10 s. Returns its output.
fn ended(command: &mut Command) -> String {
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    output_of(&child.wait_with_output().unwrap())
}
