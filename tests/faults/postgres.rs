//! PostgreSQL that fails, and PostgreSQL databases that Keyward refuses.

use std::process::{Command, Output};
use std::time::Duration;

use keyward_proto::admin::{GrantRoleRequest, Role, VerifyLogRequest};
use keyward_tests::client::{Admin, on_platform, reason};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::command;
use keyward_tests::parts;
use keyward_tests::postgres::{PASSWORD, Postgres, free_port};
use keyward_tests::process::{Process, output_of};
use keyward_tests::{report, size};
use sqlx::Connection;

use crate::breaking::{Break, Relay};
use crate::changes::{Change, METHODS, PROJECT};

const OWNER: &str = "keyward";

async fn prepared(admin: &Admin) {
    admin.create_project(PROJECT).await.unwrap();
    admin.create_key(PROJECT, "updated").await.unwrap();
    let support = GrantRoleRequest { name: "members/root".to_owned(), role: Some(on_platform(Role::Support)) };
    admin.members.clone().grant_role(support).await.unwrap();
}

/// Repeats a call until the admin's pools have working connections again, because the broken ones fail one after the
/// other.
async fn until_done(change: &Change, admin: &Admin, what: &str) -> String {
    for _ in 0..50 {
        match change.call(admin).await {
            Ok(effect) => return effect.resource,
            Err(status) => assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{what}: {status:?}"),
        }
    }
    panic!("{what}: the admin does not recover")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_change_is_durable_wherever_the_connection_to_postgresql_breaks() {
    at_every_position(Break::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_change_is_durable_whichever_reply_of_postgresql_is_lost() {
    at_every_position(Break::After).await;
}

async fn at_every_position(how: Break) {
    let cluster = Cluster::start(&[]);
    let relay = Relay::to(cluster.database_at()).await;
    let process = cluster.admin_through("a1", &cluster.url_through(relay.at));
    let admin = Admin::connect(process.at, &cluster.root()).await;
    prepared(&admin).await;
    let mut direct = sqlx::PgConnection::connect(&cluster.url).await.unwrap();
    let (mut all, mut refused) = (0, 0);
    for method in METHODS {
        let (mut positions, mut last) = (0, 0);
        for n in (1..).step_by(size::FAULT_POSITIONS_STEP) {
            let what = format!("{method}, the connection breaks {how:?} segment {n}");
            let change = Change::prepare(method, &admin, format!("t{all}x{n}")).await.expect(&what);
            let newest = "SELECT revision FROM rev_counter";
            let before: i64 = sqlx::query_scalar(newest).fetch_one(&mut direct).await.unwrap();
            relay.break_at(n, how);
            let first = change.call(&admin).await;
            let broken = relay.heal();
            let resource = match first {
                Ok(effect) => effect.resource,
                Err(status) => {
                    refused += 1;
                    assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{what}: {status:?}");
                    until_done(&change, &admin, &what).await
                }
            };
            let entry = "SELECT count(*) > 0 FROM change_log WHERE revision > $1 AND resource = $2";
            let entry = sqlx::query_scalar::<_, bool>(entry).bind(before).bind(&resource).fetch_one(&mut direct);
            assert!(entry.await.unwrap(), "{what}: {resource} was acknowledged and not committed");
            if !broken {
                break;
            }
            positions += 1;
            last = n;
            all += 1;
        }
        report::line(&format!("{method:18} broken {how:?} {positions:3} segments"));
        assert!(last > 3, "{method} does not write to the database");
    }
    report::line(&format!(
        "connections broken at {all} positions within transactions: {refused} calls refused, 0 acknowledged changes lost"
    ));
    let verified = admin.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(verified.intact, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_statement_fails_only_its_own_change() {
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let admin = Admin::connect(process.at, &cluster.root()).await;
    prepared(&admin).await;
    let url = cluster.url.clone();
    let change = Change::prepare("CreateKey", &admin, "cancelled".to_owned()).await.unwrap();
    // A transaction of the operator locks the row of the revision counter. The statement that waits for the lock is
    // cancelled.
    let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM rev_counter FOR UPDATE").execute(&mut holder).await.unwrap();
    let call = {
        let (admin, change) = (admin.clone(), change);
        tokio::spawn(async move { (change.call(&admin).await, change) })
    };
    // On another connection, because within a transaction pg_stat_activity does not change.
    let mut operator = sqlx::PgConnection::connect(&url).await.unwrap();
    let cancel = "SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity \
                  WHERE wait_event_type = 'Lock' AND query LIKE '%rev_counter%'";
    while !sqlx::query_scalar::<_, bool>(cancel).fetch_one(&mut operator).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (refused, change) = call.await.unwrap();
    let status = refused.unwrap_err();
    assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    assert!(status.message().contains("cancelled the statement (SQLSTATE 57014)"), "{status:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    change.call(&admin).await.unwrap();
}

/// Returns the errors with which `init` and `admin` refuse a database.
fn refusals(cluster: &Cluster, url: &str) -> Vec<String> {
    let init = |dir: &std::path::Path| -> Output {
        let mut init = command("keyward");
        init.args(["init", "--database-url", url]).arg("--keyring").arg(dir.join("keyring"));
        init.arg("--root-credential").arg(dir.join("root")).output().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let outputs = [init(dir.path()), cluster.admin_command(url).output().unwrap()];
    outputs
        .iter()
        .map(|output| {
            let text = output_of(output);
            assert!(!output.status.success() && !text.contains(PASSWORD), "{text}");
            let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
            assert_eq!(errors.len(), 1, "{text}");
            errors[0].to_owned()
        })
        .collect()
}

#[test]
fn an_unsuitable_database_is_refused_at_the_start_with_the_cause_once() {
    let cluster = Cluster::start(&[]);
    let psql = |sql: &str| cluster.postgres.psql(&cluster.url, sql).unwrap();
    psql("CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    psql("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 3");
    psql("CREATE ROLE weak LOGIN PASSWORD 'weak'");
    psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let database = |name: &str| cluster.url.strip_suffix("keyward").unwrap().to_owned() + name;
    let role = |name: &str| cluster.url.replace(&format!("{OWNER}:{PASSWORD}"), &format!("{name}:{name}"));
    let wrong = cluster.url.replace(PASSWORD, "wrong");
    let cases = [
        (database("latin1"), "the database's encoding is LATIN1, and Keyward needs UTF8"),
        (database("absent"), "the database of the URL does not exist (SQLSTATE 3D000)"),
        (role("few"), "the database's role may hold 3 connections, and one admin uses up to 19"),
        (role("weak"), "the database's role lacks a privilege that Keyward needs (SQLSTATE 42501)"),
        (wrong, "the database refuses the login: user, password or pg_hba.conf (SQLSTATE 28P01)"),
    ];
    for (url, expected) in cases {
        for error in refusals(&cluster, &url) {
            report::line(&error);
            assert_eq!(error.matches(expected).count(), 1, "{error}");
            // The driver's message follows, and must appear only once.
            let (_, words) = error.split_once(expected).unwrap();
            let driver = words.trim_start_matches(": ");
            assert!(driver.is_empty() || error.matches(driver).count() == 1, "{error}");
        }
    }
}

#[test]
fn a_database_behind_transaction_pooling_is_refused_and_one_behind_session_pooling_is_accepted() {
    let cluster = Cluster::start(&[]);
    for (mode, fits) in [("transaction", false), ("session", true)] {
        let pooler = Pooler::start(&cluster.postgres, cluster.database_at().port(), mode);
        let url = cluster.url.replace(&cluster.database_at().to_string(), &format!("127.0.0.1:{}", pooler.port));
        if fits {
            drop(cluster.admin_through(mode, &url));
        } else {
            for error in refusals(&cluster, &url) {
                report::line(&error);
                assert!(error.contains("behind a connection pooler in transaction mode"), "{error}");
            }
        }
    }
}

/// A running PgBouncer.
struct Pooler {
    port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Pooler {
    fn start(postgres: &Postgres, server: u16, mode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let (ini, users) = (dir.path().join("pgbouncer.ini"), dir.path().join("users"));
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 40\n\
             ignore_startup_parameters = extra_float_digits,search_path\n",
            users.display()
        );
        std::fs::write(&ini, settings).unwrap();
        std::fs::write(&users, format!("\"{OWNER}\" \"{PASSWORD}\"\n")).unwrap();
        let programs = parts::pgbouncer().copied(&dir.path().join("programs")).unwrap();
        let mut command: Command = programs.command("pgbouncer");
        // PgBouncer refuses to run as root.
        postgres.as_its_user(&mut command, dir.path());
        let mut process = Process::start(command.arg(&ini), &dir.path().join("log"));
        process.wait_for("the pooler", |_| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, _process: process, _dir: dir }
    }
}
