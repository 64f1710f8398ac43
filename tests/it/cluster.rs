//! Several admins over one PostgreSQL, and validators that move between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::admin::DeactivateKeyRequest;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, reason};
use keyward_tests::cluster::{AdminProcess, Cluster};
use keyward_tests::keyward::Validator;
use keyward_tests::proxy::{Network, Proxy};
use keyward_tests::{report, size, web};
use rustix::process::Signal;
use tokio::task::JoinHandle;

/// A lease short enough for a test to wait for its end.
const LEASE: [&str; 2] = ["--lease", "2s"];

/// The wait-out time D' for this lease: 2 s × 1.1 / 0.9 + 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// Tolerance for the delays of a busy machine.
const NOISE: Duration = Duration::from_secs(1);

/// The longest wait for recovery after a fault.
const PATIENCE: Duration = Duration::from_secs(30);

/// Validates the token of a deactivated key, which must not be accepted. Returns `true` if the validator answered.
async fn must_not_accept(client: &ValidatorClient, token: &str) -> bool {
    match client.validate(token).await {
        Ok(answer) => {
            assert_eq!(answer.verdict(), Verdict::Deactivated, "not DEACTIVATED after Deactivate returned: {answer:?}");
            true
        }
        Err(status) => {
            assert_eq!(reason(&status), "NO_LEASE", "{status:?}");
            false
        }
    }
}

async fn until_valid(client: &ValidatorClient, token: &str) {
    let begun = Instant::now();
    while !client.validate(token).await.is_ok_and(|answer| answer.verdict() == Verdict::Valid) {
        assert!(begun.elapsed() < PATIENCE, "the validator did not recover");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A loop that validates the token of an active key until it is ended.
struct Load {
    stop: Arc<AtomicBool>,
    validations: Arc<AtomicUsize>,
    unavailable: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    fn on(client: &ValidatorClient, token: &str) -> Self {
        let (stop, validations, unavailable) = (Arc::default(), Arc::default(), Arc::default());
        let (client, token) = (client.clone(), token.to_owned());
        let task = tokio::spawn({
            let (stop, validations, unavailable) =
                (Arc::clone(&stop), Arc::clone(&validations), Arc::clone(&unavailable));
            async move {
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    match client.validate(&token).await {
                        Ok(answer) => assert_eq!(answer.verdict(), Verdict::Valid, "an active key was refused"),
                        Err(status) => {
                            assert_eq!(reason(&status), "NO_LEASE");
                            AtomicUsize::fetch_add(&unavailable, 1, Ordering::Relaxed);
                        }
                    }
                    AtomicUsize::fetch_add(&validations, 1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        });
        Self { stop, validations, unavailable, task }
    }

    /// Ends the loop. Returns how many validations there were, and how many were unavailable.
    async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        (self.validations.load(Ordering::Relaxed), self.unavailable.load(Ordering::Relaxed))
    }
}

/// Returns how many sessions a validator has begun.
fn sessions(validator: &Validator) -> usize {
    validator.process.log().lines().filter(|line| line.contains("session begins")).count()
}

async fn admin_of(cluster: &Cluster, process: &AdminProcess) -> Admin {
    Admin::connect(process.at, &cluster.root()).await
}

fn percentiles(mut micros: Vec<u128>) -> String {
    micros.sort_unstable();
    let at = |share: usize| micros[(micros.len() * share / 100).min(micros.len() - 1)];
    format!("p50 {} µs, p99 {} µs, max {} µs", at(50), at(99), at(100))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_admin_fences_by_acks_in_milliseconds() {
    const TIMES: usize = size::DEACTIVATIONS;
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let admin = admin_of(&cluster, &process).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let validators =
        [cluster.validator("v1", &process, &[process.at]), cluster.validator("v2", &process, &[process.at])];
    let clients =
        [ValidatorClient::connect(validators[0].grpc).await, ValidatorClient::connect(validators[1].grpc).await];
    assert_eq!(clients[0].verdict(&token).await, Verdict::Valid);
    let mut micros = Vec::new();
    for n in 0..TIMES {
        let name = format!("k{n}");
        let made = admin.create_key("6666", &name).await.unwrap();
        assert_eq!(made.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Deactivated);
        }
        micros.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap().as_micros());
    }
    let figures = percentiles(micros);
    report::line(&format!("figure: fence after commit, PostgreSQL, 1 admin, 2 validators, {TIMES}: {figures}"));
}

/// Each admin learns from the other that its validators have acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_that_call_each_other_fence_by_acks_in_milliseconds() {
    const TIMES: usize = size::DEACTIVATIONS;
    let cluster = Cluster::start(&[]);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let admins = [admin_of(&cluster, &processes[0]).await, admin_of(&cluster, &processes[1]).await];
    admins[0].create_project("6666").await.unwrap();
    let (mut validators, mut clients) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let validator = cluster.validator(&format!("v{n}"), &processes[0], &[processes[n % 2].at]);
        clients.push(ValidatorClient::connect(validator.grpc).await);
        validators.push(validator);
    }
    let mut micros = Vec::new();
    for n in 0..TIMES {
        let (admin, name) = (&admins[n % 2], format!("k{n}"));
        let made = admin.create_key("6666", &name).await.unwrap();
        let receipt = made.receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 4), "{receipt:?}");
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admins[(n + 1) % 2].deactivate("6666", &name).await.unwrap().receipt.unwrap();
        let outcome = (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed);
        assert_eq!(outcome, (EnforcedBy::Acks, 4, 0), "{receipt:?}");
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Deactivated);
        }
        micros.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap().as_micros());
    }
    let figures = percentiles(micros);
    report::line(&format!("figure: fence after commit, PostgreSQL, 2 admins, 4 validators, {TIMES}: {figures}"));
}

/// For D − 3 s the database accepts requests and does not answer.
#[cfg(feature = "proof")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_stall_shorter_than_a_lease_makes_no_validation_unavailable() {
    const STALL: Duration = Duration::from_secs(7);
    let cluster = Cluster::start(&["--lease", "10s"]);
    let databases = [Proxy::to(cluster.database_at()).await, Proxy::to(cluster.database_at()).await];
    let processes = [
        cluster.admin_through("a1", &cluster.url_through(databases[0].at)),
        cluster.admin_through("a2", &cluster.url_through(databases[1].at)),
    ];
    let admin = admin_of(&cluster, &processes[0]).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    let at = [processes[0].at, processes[1].at];
    let validators = [cluster.validator("v1", &processes[0], &at), cluster.validator("v2", &processes[0], &at)];
    let mut loads = Vec::new();
    for validator in &validators {
        let client = ValidatorClient::connect(validator.grpc).await;
        until_valid(&client, &control).await;
        loads.push(Load::on(&client, &control));
    }
    // By then leases have their full length.
    tokio::time::sleep(Duration::from_secs(2)).await;
    databases.iter().for_each(|database| database.set(Network::Silent));
    tokio::time::sleep(STALL).await;
    databases.iter().for_each(|database| database.set(Network::Whole));
    // By then every lease from before the stall has ended.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut validations, mut unavailable) = (0, 0);
    for load in loads {
        let (all, without) = load.end().await;
        validations += all;
        unavailable += without;
    }
    report::line(&format!(
        "a database that stalls for {STALL:?}, D = 10 s: {unavailable} of {validations} unavailable"
    ));
    assert_eq!(unavailable, 0);
    assert!(admin.create_key("6666", "after").await.is_ok());
}

/// Two admins that do not call each other: whichever is called waits out the other's leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deactivated_key_is_accepted_while_validators_move_between_admins_without_peers() {
    let cluster = Cluster::start(&LEASE);
    let processes = [cluster.admin_without_peers("a1"), cluster.admin_without_peers("a2")];
    let moves = Moves { at_least: size::MOVES, pause: Duration::ZERO };
    deactivate_among_moves(&cluster, processes, "that wait", moves, |by_acks| by_acks == 0).await;
}

/// Two admins that call each other. A lease granted on a broken stream is waited out. A call returns on
/// acknowledgements alone only while no such lease is left, so there is a pause between the moves.
#[cfg(feature = "proof")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deactivated_key_is_accepted_while_validators_move_between_peers() {
    let cluster = Cluster::start(&LEASE);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let moves = Moves { at_least: 20, pause: Duration::from_secs(3) };
    deactivate_among_moves(&cluster, processes, "that ask each other", moves, |by_acks| by_acks > 0).await;
}

/// The pattern in which validators are moved.
#[derive(Clone, Copy, Debug)]
struct Moves {
    at_least: usize,
    /// The pause after each validator has been moved once.
    pause: Duration,
}

/// Deactivates keys at both admins while validators move between them. `fits` checks how many deactivations returned on
/// acknowledgements.
async fn deactivate_among_moves(
    cluster: &Cluster,
    processes: [AdminProcess; 2],
    admins_are: &str,
    Moves { at_least, pause }: Moves,
    fits: fn(usize) -> bool,
) {
    const KEYS: usize = size::DEACTIVATIONS_AMONG_MOVES;
    const AT_ONCE: usize = 25;
    let admins = [admin_of(cluster, &processes[0]).await, admin_of(cluster, &processes[1]).await];
    let control = admins[0].create_project("6666").await.unwrap().default_token;
    let (mut validators, mut clients, mut networks) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..4 {
        let links = [Proxy::to(processes[0].at).await, Proxy::to(processes[1].at).await];
        // Half of the validators begin at each admin.
        links[(n + 1) % 2].set(Network::Cut);
        let validator = cluster.validator(&format!("v{n}"), &processes[0], &[links[0].at, links[1].at]);
        clients.push(ValidatorClient::connect(validator.grpc).await);
        validators.push(validator);
        networks.push(links);
    }
    let mut tokens = Vec::new();
    for n in 0..KEYS {
        tokens.push(admins[n % 2].create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    for client in &clients {
        until_valid(client, &tokens[KEYS - 1]).await;
    }
    let load: Vec<_> = clients.iter().map(|client| Load::on(client, &control)).collect();

    let done = Arc::new(AtomicBool::new(false));
    // Repeatedly cuts each validator from its current admin, so that it moves to the other.
    let mover = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut moves = 0;
            while moves < at_least || !done.load(Ordering::Relaxed) {
                for (n, links) in networks.iter().enumerate() {
                    let side = (moves / networks.len() + n) % 2;
                    links[1 - side].set(Network::Whole);
                    links[side].set(Network::Cut);
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                moves += networks.len();
                tokio::time::sleep(pause).await;
            }
            networks.iter().flatten().for_each(|link| link.set(Network::Whole));
            networks
        }
    });
    let (mut longest, mut unanswered, mut by_acks) = (Duration::ZERO, 0, 0);
    for (chunk, tokens) in tokens.chunks(AT_ONCE).enumerate() {
        let calls: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                let (admin, clients, token) = (admins[n % 2].clone(), clients.clone(), token.clone());
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let name = format!("k{}", chunk * AT_ONCE + n);
                    let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
                    let took = begun.elapsed();
                    assert_ne!(receipt.enforced_by(), EnforcedBy::Pending, "{receipt:?}");
                    let mut unanswered = 0;
                    for client in &clients {
                        unanswered += usize::from(!must_not_accept(client, &token).await);
                    }
                    (took, unanswered, receipt.enforced_by() == EnforcedBy::Acks)
                })
            })
            .collect();
        for call in calls {
            let (took, without, acks) = call.await.unwrap();
            longest = longest.max(took);
            unanswered += without;
            by_acks += usize::from(acks);
        }
    }
    done.store(true, Ordering::Relaxed);
    let _networks = mover.await.unwrap();
    for token in &tokens {
        for client in &clients {
            must_not_accept(client, token).await;
        }
    }
    let moves: usize = validators.iter().map(|validator| sessions(validator) - 1).sum();
    let (mut validations, mut unavailable) = (0, 0);
    for load in load {
        let (all, without) = load.end().await;
        validations += all;
        unavailable += without;
    }
    report::line(&format!(
        "PostgreSQL, 2 admins {admins_are}, 4 validators, D = 2 s: {KEYS} deactivations, {by_acks} of them by acks, {moves} \
         moves, 0 accepted after the return ({unanswered} of {} unanswered), longest {longest:?}; {unavailable} of {validations} \
         unavailable beside",
        KEYS * 4
    ));
    assert!(moves >= at_least, "{moves}");
    assert!(fits(by_acks), "{by_acks}");
    assert!(longest < WAIT_OUT + NOISE, "{longest:?}");
}

/// Such an admin can still reach its validators, but must not renew their leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_cut_off_from_the_database_cannot_extend_leases() {
    for network in [Network::Silent, Network::Cut] {
        let cluster = Cluster::start(&LEASE);
        let database = Proxy::to(cluster.database_at()).await;
        let cut_off = cluster.admin_through("a1", &cluster.url_through(database.at));
        let mut well = cluster.admin("a2");
        let admin = admin_of(&cluster, &well).await;
        let control = admin.create_project("6666").await.unwrap().default_token;
        // One validator knows only the cut-off admin. The other knows both, and uses that one first.
        let link = Proxy::to(well.at).await;
        link.set(Network::Cut);
        let bound = cluster.validator("bound", &well, &[cut_off.at]);
        let free = cluster.validator("free", &well, &[cut_off.at, link.at]);
        link.set(Network::Whole);
        let (bound_client, free_client) =
            (ValidatorClient::connect(bound.grpc).await, ValidatorClient::connect(free.grpc).await);
        let tokens =
            [admin.create_key("6666", "a").await.unwrap().token, admin.create_key("6666", "b").await.unwrap().token];
        for client in [&bound_client, &free_client] {
            until_valid(client, &tokens[1]).await;
        }
        let load = Load::on(&free_client, &control);

        database.set(network);
        for (name, token) in ["a", "b"].into_iter().zip(&tokens) {
            if name == "b" {
                well.process.wait_for("the eviction", |p| p.log().contains("evicted an admin").then_some(()));
            }
            let begun = Instant::now();
            let receipt = admin.deactivate("6666", name).await.unwrap().receipt.unwrap();
            let expected = if name == "a" { EnforcedBy::WaitOut } else { EnforcedBy::Acks };
            assert_eq!(receipt.enforced_by(), expected, "{receipt:?}");
            assert!(begun.elapsed() < WAIT_OUT + NOISE, "{:?}", begun.elapsed());
            assert!(!must_not_accept(&bound_client, token).await, "the change cannot have reached it");
            assert!(must_not_accept(&free_client, token).await, "it has moved to the other admin");
        }
        assert_eq!(web::get(cut_off.ops, "/readyz", &[]).await.status, 503);
        let (validations, unavailable) = load.end().await;
        report::line(&format!(
            "an admin cut from its database ({network:?}): {unavailable} of {validations} unavailable"
        ));
        assert_eq!(unavailable, 0, "the validator with two admins moved in time");
        assert!(free.process.log().contains("moved to another admin"));

        // The evicted admin begins another life.
        database.set(Network::Cut);
        database.set(Network::Whole);
        until_valid(&bound_client, &control).await;
        for token in &tokens {
            assert!(must_not_accept(&bound_client, token).await);
        }
    }
}

/// The other admin waits until the killed admin's leases have ended, and then deletes its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_admin_delays_one_deactivation_and_is_then_evicted() {
    let cluster = Cluster::start(&LEASE);
    let mut killed = cluster.admin("a1");
    let stays = cluster.admin("a2");
    let admin = admin_of(&cluster, &stays).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    let (v1, v2) = (
        cluster.validator("v1", &stays, &[killed.at, stays.at]),
        cluster.validator("v2", &stays, &[killed.at, stays.at]),
    );
    let clients = [ValidatorClient::connect(v1.grpc).await, ValidatorClient::connect(v2.grpc).await];
    let mut tokens = Vec::new();
    for n in 0..3 {
        tokens.push(admin.create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    for client in &clients {
        until_valid(client, &tokens[2]).await;
    }
    let load: Vec<_> = clients.iter().map(|client| Load::on(client, &control)).collect();
    killed.process.kill();
    let begun = Instant::now();
    let receipt = admin.deactivate("6666", "k0").await.unwrap().receipt.unwrap();
    assert_eq!(receipt.enforced_by(), EnforcedBy::WaitOut, "{receipt:?}");
    assert!(begun.elapsed() < WAIT_OUT + NOISE, "{:?}", begun.elapsed());
    for client in &clients {
        assert!(must_not_accept(client, &tokens[0]).await, "both have moved to the other admin");
    }
    let mut log = stays.process;
    log.wait_for("the eviction of the killed admin", |p| p.log().contains("evicted an admin").then_some(()));
    let receipt = admin.deactivate("6666", "k1").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
    for client in &clients {
        assert!(must_not_accept(client, &tokens[1]).await);
    }
    for load in load {
        let (validations, unavailable) = load.end().await;
        assert_eq!(unavailable, 0, "of {validations}: the lease outlasts the move");
    }
}

/// A standby is promoted while the old primary lives on, and each admin writes to another one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_primaries_no_change_is_called_enforced_and_both_admins_raise_an_alarm() {
    let mut cluster = Cluster::start(&LEASE);
    let (first, second) = (Proxy::to(cluster.database_at()).await, Proxy::to(cluster.database_at()).await);
    let a1 = cluster.admin_through("a1", &cluster.url_through(first.at));
    let a2 = cluster.admin_through("a2", &cluster.url_through(second.at));
    let admin = admin_of(&cluster, &a1).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let (v1, v2) = (cluster.validator("v1", &a1, &[a1.at]), cluster.validator("v2", &a1, &[a2.at]));
    let clients = [ValidatorClient::connect(v1.grpc).await, ValidatorClient::connect(v2.grpc).await];
    for client in &clients {
        until_valid(client, &token).await;
    }
    for admin in [&a1, &a2] {
        assert_eq!(admin.metric("peers_elsewhere").await, 0);
    }
    let old_primary = cluster.database_at();
    let other = cluster.postgres.split().unwrap();
    second.lead_to(other.at());
    let begun = Instant::now();
    until_elsewhere(&[&a1, &a2], 1).await;
    report::line(&format!("two primaries: both admins raise the alarm after {:?}", begun.elapsed()));
    for client in &clients {
        until_valid(client, &token).await;
    }
    let mut request =
        tonic::Request::new(DeactivateKeyRequest { name: "projects/6666/keys/a".to_owned(), ..Default::default() });
    request.set_timeout(WAIT_OUT + NOISE);
    let refused = admin.keys.clone().deactivate_key(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_YET_ENFORCED", "{refused:?}");
    assert_eq!(clients[1].verdict(&token).await, Verdict::Valid, "its admin's database has not the change");
    assert!(a1.process.log().contains("two servers take writes"));

    // The operator stops one of the two. Its admin follows the other one.
    drop(other);
    second.lead_to(old_primary);
    until_elsewhere(&[&a1, &a2], 0).await;
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_ne!(receipt.enforced_by(), EnforcedBy::Pending, "{receipt:?}");
    for client in &clients {
        must_not_accept(client, &token).await;
    }
}

async fn until_elsewhere(admins: &[&AdminProcess], count: i64) {
    let begun = Instant::now();
    for admin in admins {
        while admin.metric("peers_elsewhere").await != count {
            assert!(begun.elapsed() < PATIENCE, "{}", admin.process.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_shutdown_of_an_admin_delays_no_deactivation_and_fails_no_validation() {
    let cluster = Cluster::start(&[]);
    let mut leaves = cluster.admin("a1");
    let stays = cluster.admin("a2");
    let admin = admin_of(&cluster, &stays).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    admin.create_key("6666", "a").await.unwrap();
    let link = Proxy::to(stays.at).await;
    link.set(Network::Cut);
    let edge = cluster.validator("edge", &stays, &[leaves.at, link.at]);
    link.set(Network::Whole);
    let client = ValidatorClient::connect(edge.grpc).await;
    until_valid(&client, &control).await;
    let load = Load::on(&client, &control);
    leaves.process.terminate();
    assert!(edge.process.log().contains("moved to another admin"), "{}", edge.process.log());
    // With D = 10 s, a wait for a lease would show.
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 1), "{receipt:?}");
    let (validations, unavailable) = load.end().await;
    assert_eq!(unavailable, 0, "of {validations}");
}

/// An admin that wakes up after it was evicted finds its row gone, and its leases are void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_was_suspended_until_its_eviction_begins_a_new_life() {
    let cluster = Cluster::start(&LEASE);
    let (sleeper, other) = (cluster.admin("a1"), cluster.admin("a2"));
    let admin = admin_of(&cluster, &other).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let later = admin.create_key("6666", "b").await.unwrap().token;
    let edge = cluster.validator("edge", &other, &[sleeper.at]);
    let client = ValidatorClient::connect(edge.grpc).await;
    until_valid(&client, &later).await;
    sleeper.process.signal(Signal::STOP);
    admin.deactivate("6666", "a").await.unwrap();
    let mut other = other;
    other
        .process
        .wait_for("the eviction of the suspended admin", |p| p.log().contains("evicted an admin").then_some(()));
    sleeper.process.signal(Signal::CONT);
    loop {
        if must_not_accept(&client, &token).await {
            break;
        }
    }
    until_valid(&client, &later).await;
    assert!(sleeper.process.log().contains("beginning a new life"));
    let receipt = admin.deactivate("6666", "b").await.unwrap().receipt.unwrap();
    let outcome = (receipt.enforced_by(), receipt.validators_acked);
    assert_eq!(outcome, (EnforcedBy::Acks, 1), "its new life holds the validator's session and answers: {receipt:?}");
    must_not_accept(&client, &later).await;
}

/// At any moment of the kill, acknowledged keys exist, and unacknowledged ones exist whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_admin_loses_no_acknowledged_key_and_leaves_no_partial_one() {
    const KILLS: usize = size::KILLS;
    const CLIENTS: usize = 8;
    let cluster = Cluster::start(&LEASE);
    let stays = cluster.admin("stays");
    let admin = admin_of(&cluster, &stays).await;
    admin.create_project("6666").await.unwrap();
    let (mut acknowledged, mut attempts) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut dies = cluster.admin(&format!("dies{kill}"));
        let through = admin_of(&cluster, &dies).await;
        let made = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (through, made) = (through.clone(), Arc::clone(&made));
                tokio::spawn(async move {
                    let (mut mine, mut n) = (Vec::new(), 0);
                    // The call fails when the process is gone.
                    loop {
                        let name = format!("k{kill}_{client}_{n}");
                        let Ok(created) = through.create_key("6666", &name).await else { return (mine, n + 1) };
                        mine.push((name, created.receipt.unwrap().revision));
                        made.fetch_add(1, Ordering::Relaxed);
                        n += 1;
                    }
                })
            })
            .collect();
        // Each kill comes at another moment of the clients' loop.
        while made.load(Ordering::Relaxed) < 40 + kill {
            tokio::task::yield_now().await;
        }
        dies.process.kill();
        for client in clients {
            let (mine, tried) = client.await.unwrap();
            acknowledged.extend(mine);
            attempts += tried;
        }
    }
    // A lock held by the dead process would block this call.
    let receipt = admin.create_key("6666", "after").await.unwrap().receipt.unwrap();
    let keys = admin.list("6666", 1_000).await.unwrap();
    for (name, revision) in &acknowledged {
        let name = format!("projects/6666/keys/{name}");
        let key =
            keys.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("{name} was acknowledged, and lost"));
        assert_eq!(key.revision, *revision);
    }
    // Each committed key took one revision, and nothing else took any.
    let revisions: std::collections::BTreeSet<_> = keys.iter().map(|key| key.revision).collect();
    assert_eq!(revisions.len(), keys.len());
    let first = revisions.first().copied().unwrap();
    assert_eq!(
        receipt.revision - first + 1,
        i64::try_from(keys.len()).unwrap(),
        "a gap in the revisions, or an incomplete key"
    );
    report::line(&format!(
        "kill -9 of {KILLS} admins among creates over PostgreSQL: {attempts} attempts, {} acknowledged, {} committed, 0 lost, \
         0 gaps",
        acknowledged.len(),
        keys.len() - 2
    ));
}
