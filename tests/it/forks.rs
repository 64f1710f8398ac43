//! History forks: the database is restored to an earlier state, and validators and admins know later changes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::admin::event::Type;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    AcceptEpochRequest, ActivateKeyRequest, GetKeyRequest, Key, ListEventsRequest, ListKeysRequest, Role,
    UpdateKeyRequest, VerifyLogRequest, key,
};
use keyward_proto::replica::peer_service_client::PeerServiceClient;
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::{BarrierRequest, Hello, SyncRequest, sync_request, sync_response};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, on_platform, reason, transport};
use keyward_tests::cluster::{Cluster, admin_metric};
use keyward_tests::keyward::{Serve, command};
use keyward_tests::process::output_of;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tokio::task::JoinHandle;

/// A lease short enough for a test to wait for its end. The wait-out time D' is 2.495 s.
const LEASE: [&str; 2] = ["--lease", "2s"];

/// The longest wait for recovery after a fault.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every table that a backup contains.
const TABLES: [&str; 13] = [
    "change_log",
    "rev_counter",
    "setting",
    "project",
    "api_key",
    "key_token",
    "member",
    "role_binding",
    "credential",
    "request",
    "admin_node",
    "history_fork",
    "withheld_token",
];

/// A loop that validates two tokens: the dead one must never be accepted, the live one never be refused.
struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Watch {
    fn over(client: &ValidatorClient, alive: &str, dead: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, alive, dead, stopped) = (client.clone(), alive.to_owned(), dead.to_owned(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut answers = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (token, verdict) in [(&dead, Verdict::Deactivated), (&alive, Verdict::Valid)] {
                    match client.validate(token).await {
                        Ok(answer) => assert_eq!(answer.verdict(), verdict, "after {answers} answers: {answer:?}"),
                        Err(status) => assert_eq!(reason(&status), "NO_LEASE", "{status:?}"),
                    }
                    answers += 1;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            answers
        });
        Self { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn until(what: &str, client: &ValidatorClient, token: &str, verdict: Verdict) {
    let begun = Instant::now();
    while !client.validate(token).await.is_ok_and(|answer| answer.verdict() == verdict) {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until an admin has detected the fork and begun a new epoch.
async fn until_fork_detected(ops: SocketAddr) {
    let begun = Instant::now();
    while admin_metric(ops, "unaccepted_epoch").await == 0 {
        assert!(begun.elapsed() < PATIENCE, "the fork was not detected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin_metric(ops, "forks_total").await, 1);
}

async fn events(admin: &Admin, filter: &str) -> Vec<keyward_proto::admin::Event> {
    let request = ListEventsRequest { filter: filter.to_owned(), ..Default::default() };
    admin.audit.clone().list_events(request).await.unwrap().into_inner().events
}

/// Returns the types of the deployment's own events, oldest first.
async fn platform_events(admin: &Admin) -> Vec<Type> {
    let mut platform_events: Vec<_> = events(admin, "").await.iter().map(keyward_proto::admin::Event::r#type).collect();
    platform_events.retain(|kind| matches!(kind, Type::HistoryForked | Type::TokensWithheld | Type::EpochAccepted));
    platform_events.reverse();
    platform_events
}

async fn verify(admin: &Admin) {
    let found = admin.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(found.intact, "{:?}", found.findings);
}

fn database(data: &Path) -> std::path::PathBuf {
    data.join("keyward.db")
}

/// Restores the database file of a `serve` to its state before key `a` was deactivated. A separate validator has seen
/// the deactivation. `more` changes are made in the restored state before that validator reconnects.
async fn restore_serve(more: usize) {
    let serve = Serve::start_with(&LEASE);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let dead = root.create_key("6666", "a").await.unwrap().token;
    let alive = root.create_key("6666", "b").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let at_edge = ValidatorClient::connect(edge.grpc).await;
    let backup = serve.data_dir().join("backup");
    let mut connection =
        SqliteConnection::connect(&format!("sqlite:{}", database(&serve.data_dir()).display())).await.unwrap();
    connection.execute(AssertSqlSafe(format!("VACUUM INTO '{}'", backup.display()))).await.unwrap();
    connection.close().await.unwrap();
    root.deactivate("6666", "a").await.unwrap();
    assert_eq!(at_edge.verdict(&dead).await, Verdict::Deactivated);
    let watch = Watch::over(&at_edge, &alive, &dead);

    if more > 0 {
        edge.process.signal(Signal::STOP);
    }
    let serve = serve.restart_on(true, |data| {
        for rest in ["keyward.db-wal", "keyward.db-shm"] {
            let _ = std::fs::remove_file(data.join(rest));
        }
        std::fs::copy(&backup, database(data)).unwrap();
    });
    let root = Admin::connect(serve.admin, &serve.root()).await;
    for n in 0..more {
        root.create_key("6666", &format!("more_{n}")).await.unwrap();
    }
    edge.process.signal(Signal::CONT);
    until_fork_detected(serve.admin_ops).await;
    // Of the running processes, only the separate validator has seen the deactivation, and reports it.
    let own = ValidatorClient::connect(serve.validator).await;
    until("the validator within serve recovers", &own, &alive, Verdict::Valid).await;
    until("the report reaches the validator within serve", &own, &dead, Verdict::Deactivated).await;
    let mark = root.create_key("6666", "mark").await.unwrap().token;
    until("the validator follows the new history", &at_edge, &mark, Verdict::Valid).await;
    assert_eq!((at_edge.verdict(&dead).await, at_edge.verdict(&alive).await), (Verdict::Deactivated, Verdict::Valid));
    assert!(watch.end().await > 10);
    assert!(edge.process.log().contains("the database has another history now"));
    assert!(serve.process.log().contains("accept-epoch"));
    let shown = root.keys.clone().get_key(GetKeyRequest { name: "projects/6666/keys/a".to_owned() }).await.unwrap();
    assert_eq!(shown.into_inner().key.unwrap().state(), key::State::Withheld, "the validator has reported it");
    assert_eq!(platform_events(&root).await, [Type::HistoryForked, Type::TokensWithheld]);
    assert_eq!(events(&root, "actor = members/_platform AND type = HISTORY_FORKED").await.len(), 1);
    verify(&root).await;
    // A change of the key does not make the validator accept it either.
    let update = Key { name: "projects/6666/keys/a".to_owned(), description: "new".to_owned(), ..Default::default() };
    root.keys.clone().update_key(UpdateKeyRequest { key: Some(update), update_mask: None }).await.unwrap();
    assert_eq!(at_edge.verdict(&dead).await, Verdict::Deactivated);

    let forked = events(&root, "type = HISTORY_FORKED").await.remove(0);
    let accept = serve.operator(&["audit", "accept-epoch", &forked.resource]).output().unwrap();
    assert!(accept.status.success(), "{}", output_of(&accept));
    until("the owner has accepted it", &at_edge, &dead, Verdict::Valid).await;
    assert_eq!(admin_metric(serve.admin_ops, "unaccepted_epoch").await, 0);
    verify(&root).await;
    root.deactivate("6666", "a").await.unwrap();
    assert_eq!(at_edge.verdict(&dead).await, Verdict::Deactivated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_denies_keys_that_it_saw_deactivated_before_a_restore() {
    restore_serve(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_detected_even_if_the_new_history_is_longer() {
    restore_serve(5).await;
}

/// Restores every table from the copies of [`back_up`], as a failover to a standby without the last changes does.
fn restore(cluster: &Cluster) {
    let tables = TABLES.map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table};"));
    let sql = format!("SET session_replication_role = replica; BEGIN; {} COMMIT", tables.concat());
    cluster.postgres.psql(&cluster.url, &sql).unwrap();
}

fn back_up(cluster: &Cluster) {
    let tables = TABLES.map(|table| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table};"));
    cluster.postgres.psql(&cluster.url, &tables.concat()).unwrap();
}

/// Returns an operator's command that calls this admin as root.
fn operator(cluster: &Cluster, at: SocketAddr, arguments: &[&str]) -> Command {
    let mut operator = command("keyward");
    operator.args(arguments).args(["--admin", &format!("http://{at}"), "--credential-file"]);
    operator.arg(cluster.credential_file());
    operator
}

fn accept_epoch(cluster: &Cluster, at: SocketAddr, epoch: &str) -> Command {
    operator(cluster, at, &["audit", "accept-epoch", epoch])
}

/// Runs a command on a terminal on which `typed` is the input. Returns its exit code and what the terminal shows.
fn on_a_terminal(mut command: Command, typed: &str) -> (Option<i32>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = || std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.stdin(side()).stderr(side()).stdout(side());
    let mut child = command.spawn().unwrap();
    // `Command` holds the terminal's other side open, and the read would never end.
    drop(command);
    let mut screen = std::fs::File::from(terminal);
    screen.write_all(typed.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // Ends with EIO when the command has closed the terminal.
    let _ = screen.read_to_end(&mut shown);
    (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
}

/// Each admin shows key `a`, whose token is withheld, as withheld: in answers, lists, filters and errors.
async fn shows_the_withheld_key(cluster: &Cluster, admins: [SocketAddr; 3]) {
    let name = "projects/6666/keys/a".to_owned();
    for at in admins {
        let admin = Admin::connect(at, &cluster.root()).await;
        let shown = admin.keys.clone().get_key(GetKeyRequest { name: name.clone() }).await.unwrap().into_inner();
        assert_eq!(shown.key.unwrap().state(), key::State::Withheld);
        let activate = ActivateKeyRequest { name: name.clone(), etag: String::new() };
        let refused = admin.keys.clone().activate_key(activate).await.unwrap_err();
        assert_eq!(reason(&refused), "KEY_WITHHELD");
        for (filter, has) in
            [("state = WITHHELD", true), ("state = ACTIVE", false), ("name = projects/6666/keys/a*", true)]
        {
            let request =
                ListKeysRequest { parent: "projects/6666".to_owned(), filter: filter.to_owned(), ..Default::default() };
            let listed = admin.keys.clone().list_keys(request).await.unwrap().into_inner().keys;
            assert_eq!(listed.iter().any(|key| key.name == name), has, "{filter}: {listed:?}");
            assert!(filter != "state = WITHHELD" || listed.len() == 1, "{listed:?}");
        }
        let list = operator(cluster, at, &["keys", "list", "--project", "6666"]).output().unwrap();
        let list = output_of(&list);
        assert!(list.lines().any(|line| line.starts_with("a ") && line.contains(" withheld ")), "{list}");
        let activate = operator(cluster, at, &["keys", "activate", "a", "--project", "6666"]).output().unwrap();
        assert_eq!(activate.status.code(), Some(5), "{}", output_of(&activate));
        assert!(output_of(&activate).contains("KEY_WITHHELD"), "{}", output_of(&activate));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_validator_denies_keys_that_an_admin_saw_deactivated_before_a_restore() {
    let cluster = Cluster::start(&LEASE);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let root = Admin::connect(processes[0].at, &cluster.root()).await;
    root.create_project("6666").await.unwrap();
    let dead = root.create_key("6666", "a").await.unwrap().token;
    let alive = root.create_key("6666", "b").await.unwrap().token;
    let both = processes.each_ref().map(|process| process.at);
    let older = cluster.validator("v1", &processes[0], &both);
    let at_older = ValidatorClient::connect(older.grpc).await;
    back_up(&cluster);
    root.deactivate("6666", "a").await.unwrap();
    assert_eq!(at_older.verdict(&dead).await, Verdict::Deactivated);
    let watch = Watch::over(&at_older, &alive, &dead);

    restore(&cluster);
    for process in &processes {
        until_fork_detected(process.ops).await;
        assert_eq!(process.metric("withheld_tokens").await, 1);
    }
    let minted = Instant::now();
    let mark = root.create_key("6666", "mark").await.unwrap().token;
    until("the validator follows the new history", &at_older, &mark, Verdict::Valid).await;
    // Leases of the former epoch may still be in use, so every deactivation is waited out.
    let receipt = root.deactivate("6666", "mark").await.unwrap().receipt.unwrap();
    assert_eq!(receipt.enforced_by(), EnforcedBy::WaitOut, "{receipt:?}, {:?} after the fork", minted.elapsed());
    assert_eq!(at_older.verdict(&mark).await, Verdict::Deactivated);
    assert_eq!(platform_events(&root).await, [Type::HistoryForked, Type::TokensWithheld]);
    let withheld = events(&root, "type = TOKENS_WITHHELD").await.remove(0);
    assert_eq!((withheld.related[0].as_str(), withheld.actor.as_str()), ("projects/6666/keys/a", "members/_platform"));

    // A new validator has not seen the deactivation, and neither has a new admin. Both must still deny the key.
    let late = cluster.admin("a3");
    for (name, admin) in [("v2", &processes[1]), ("v3", &late)] {
        let fresh = cluster.validator(name, admin, &[admin.at]);
        let at_fresh = ValidatorClient::connect(fresh.grpc).await;
        until("a fresh validator", &at_fresh, &alive, Verdict::Valid).await;
        assert_eq!(at_fresh.verdict(&dead).await, Verdict::Deactivated);
    }
    verify(&root).await;
    assert!(watch.end().await > 10);

    shows_the_withheld_key(&cluster, [processes[0].at, processes[1].at, late.at]).await;

    // On a terminal the command lists the withheld keys, and asks.
    let refused = on_a_terminal(accept_epoch(&cluster, processes[0].at, &withheld.resource), "n\n");
    assert!(refused.0 == Some(1) && refused.1.contains("projects/6666/keys/a\r\n"), "{refused:?}");
    assert!(refused.1.contains("[y/N]") && refused.1.contains("nothing was changed"), "{refused:?}");
    assert_eq!(at_older.verdict(&dead).await, Verdict::Deactivated);
    let accepted = on_a_terminal(accept_epoch(&cluster, processes[0].at, &withheld.resource), "y\n");
    assert_eq!(accepted.0, Some(0), "{accepted:?}");
    until("the owner has accepted it", &at_older, &dead, Verdict::Valid).await;
    let shown = root.keys.clone().get_key(GetKeyRequest { name: "projects/6666/keys/a".to_owned() }).await.unwrap();
    assert_eq!(shown.into_inner().key.unwrap().state(), key::State::Active);
    // There is nothing to ask without a terminal, and the command can be repeated.
    let again = accept_epoch(&cluster, processes[1].at, &withheld.resource).output().unwrap();
    assert!(again.status.success() && output_of(&again).contains("released: 0"), "{}", output_of(&again));
    verify(&root).await;
    assert_eq!(platform_events(&root).await, [Type::HistoryForked, Type::TokensWithheld, Type::EpochAccepted]);
}

/// All admins die with a database server that had deactivations which its standby lacks. Only a validator survives that has
/// seen them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_validator_denies_keys_that_a_validator_saw_deactivated_before_all_admins_died() {
    const KEYS: usize = 10;
    let cluster = Cluster::start(&LEASE);
    let mut processes = [cluster.admin("a1"), cluster.admin("a2")];
    let root = Admin::connect(processes[0].at, &cluster.root()).await;
    root.create_project("6666").await.unwrap();
    let alive = root.create_key("6666", "alive").await.unwrap().token;
    let mut dead = Vec::new();
    for n in 0..KEYS {
        dead.push(root.create_key("6666", &format!("dead_{n}")).await.unwrap().token);
    }
    let both = processes.each_ref().map(|process| process.at);
    let survivor = cluster.validator("survivor", &processes[0], &both);
    let at_survivor = ValidatorClient::connect(survivor.grpc).await;
    back_up(&cluster);
    for n in 0..KEYS {
        root.deactivate("6666", &format!("dead_{n}")).await.unwrap();
    }
    let watch = Watch::over(&at_survivor, &alive, &dead[0]);
    processes.iter_mut().for_each(|process| process.process.kill());
    restore(&cluster);

    let processes = [cluster.admin_at("b1", both[0]), cluster.admin_at("b2", both[1])];
    let root = Admin::connect(both[0], &cluster.root()).await;
    let fresh = cluster.validator("fresh", &processes[1], &both[1..]);
    let at_fresh = ValidatorClient::connect(fresh.grpc).await;
    for token in &dead {
        until("the report reaches a validator that began after the loss", &at_fresh, token, Verdict::Deactivated).await;
    }
    until("the fresh validator", &at_fresh, &alive, Verdict::Valid).await;
    let later = cluster.validator("later", &processes[0], &both);
    let at_later = ValidatorClient::connect(later.grpc).await;
    until("a validator that starts after the report", &at_later, &alive, Verdict::Valid).await;
    for token in &dead {
        assert_eq!(at_later.verdict(token).await, Verdict::Deactivated);
        assert_eq!(at_survivor.verdict(token).await, Verdict::Deactivated);
    }
    assert!(watch.end().await > 10);
    assert_eq!(platform_events(&root).await, [Type::HistoryForked, Type::TokensWithheld]);
    let withheld = events(&root, "type = TOKENS_WITHHELD").await.remove(0);
    let names: Vec<_> = (0..KEYS).map(|n| format!("projects/6666/keys/dead_{n}")).collect();
    assert_eq!((withheld.related, withheld.actor.as_str()), (names, "members/_platform"));
    for process in &processes {
        assert_eq!(process.metric("withheld_tokens").await, KEYS as i64);
    }
    let logs = processes.iter().map(|process| process.process.log()).collect::<String>();
    assert!(logs.contains("a validator has seen tokens denied that the database accepts"), "{logs}");
    verify(&root).await;

    let epoch = withheld.resource.strip_prefix("epochs/").unwrap().to_owned();
    let accepted = root.audit.clone().accept_epoch(AcceptEpochRequest { epoch }).await.unwrap().into_inner();
    assert_eq!(accepted.released, KEYS as i64);
    until("the owner has accepted the epoch", &at_survivor, &dead[0], Verdict::Valid).await;
    verify(&root).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_clears_barriers_of_its_own_history_only() {
    let cluster = Cluster::start(&LEASE);
    let process = cluster.admin("a1");
    let root = Admin::connect(process.at, &cluster.root()).await;
    root.create_project("6666").await.unwrap();
    let found = |sql: &str| cluster.postgres.psql(&cluster.url, sql).unwrap();
    let bytes = |sql: &str| hex::decode(found(sql).trim()).unwrap();
    let own = BarrierRequest {
        incarnation: bytes("SELECT replace(incarnation::text, '-', '') FROM admin_node"),
        epoch: found("SELECT epoch FROM rev_counter"),
        revision: found("SELECT revision FROM rev_counter").parse().unwrap(),
        chain: bytes("SELECT encode(chain, 'hex') FROM rev_counter"),
    };
    root.create_key("6666", "a").await.unwrap();
    let peer = std::fs::read_to_string(cluster.peer_credential()).unwrap();
    let peer = PeerServiceClient::new(transport(process.at, Some(peer.trim())).await);
    let clears = async |request: BarrierRequest| peer.clone().barrier(request).await.unwrap().into_inner().cleared;

    assert!(clears(own.clone()).await, "a change that it has published");
    let another_life = keyward_domain::Uid::generate().as_bytes().to_vec();
    let another_epoch = keyward_domain::Uid::generate().to_string();
    // After a failover that lost the last changes, the next change has a revision that this admin knows with another
    // chain value.
    assert!(!clears(BarrierRequest { chain: vec![7; 32], ..own.clone() }).await);
    assert!(!clears(BarrierRequest { epoch: another_epoch, ..own.clone() }).await);
    assert!(!clears(BarrierRequest { incarnation: another_life, ..own.clone() }).await);

    for (field, bad) in [
        ("incarnation", BarrierRequest { incarnation: vec![7; 15], ..own.clone() }),
        ("epoch", BarrierRequest { epoch: "none".to_owned(), ..own.clone() }),
        ("revision", BarrierRequest { revision: 0, ..own.clone() }),
        ("chain", BarrierRequest { chain: vec![7; 31], ..own.clone() }),
    ] {
        let refused = peer.clone().barrier(bad).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(format!("{refused:?}").contains(field), "{field}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_with_an_invented_position_cannot_trigger_a_fork() {
    let serve = Serve::start_with(&LEASE);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let credential = root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap();
    let mut client = ReplicaServiceClient::new(transport(serve.admin, Some(&credential)).await);
    for (revision, chain) in
        [(1, vec![7; 64]), (1, vec![7; 32]), (99, vec![]), (i64::MAX, vec![7; 64]), (-1, vec![7; 64])]
    {
        let epoch = keyward_domain::Uid::generate().to_string();
        let hello = Hello { protocol: 1, validator_id: "edge".to_owned(), epoch, revision, chain, snapshot: false };
        let hello = SyncRequest { message: Some(sync_request::Message::Hello(hello)) };
        // The request stream stays open: the session would end with it.
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([hello]), tokio_stream::pending());
        let mut answers = client.sync(requests).await.unwrap().into_inner();
        let Some(sync_response::Message::Welcome(welcome)) = answers.message().await.unwrap().unwrap().message else {
            panic!("no Welcome");
        };
        assert!(welcome.snapshot && !welcome.continues && welcome.epoch_accepted, "{welcome:?}");
    }
    assert_eq!(platform_events(&root).await, []);
    assert_eq!(
        (admin_metric(serve.admin_ops, "forks_total").await, admin_metric(serve.admin_ops, "unaccepted_epoch").await),
        (0, 0)
    );
}
