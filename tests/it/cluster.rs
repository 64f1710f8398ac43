//! Several admins over one PostgreSQL, and validators that move between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, reason};
use keyward_tests::cluster::{AdminProcess, Cluster};
use keyward_tests::keyward::Validator;
use keyward_tests::proxy::{Network, Proxy};
use keyward_tests::{report, web};
use rustix::process::Signal;
use tokio::task::JoinHandle;

/// A lease short enough to wait for.
const LEASE: [&str; 2] = ["--lease", "2s"];

/// D' for it: 2 s × 1.1 / 0.9 and 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// What this machine's noise may add.
const NOISE: Duration = Duration::from_secs(1);

/// How long until what was broken must be well again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks a validator about a token: never may it accept one that is dead. Whether it answered.
async fn must_not_accept(asker: &Asker, token: &str) -> bool {
    match asker.ask(token).await {
        Ok(answer) => {
            assert_eq!(answer.verdict(), Verdict::Deactivated, "accepted or lost after the return: {answer:?}");
            true
        }
        Err(status) => {
            assert_eq!(reason(&status), "NO_LEASE", "{status:?}");
            false
        }
    }
}

async fn until_valid(asker: &Asker, token: &str) {
    let begun = Instant::now();
    while !asker.ask(token).await.is_ok_and(|answer| answer.verdict() == Verdict::Valid) {
        assert!(begun.elapsed() < PATIENCE, "does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks about a key that lives, all the time.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    unavailable: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    fn on(asker: &Asker, token: &str) -> Self {
        let (stop, asked, unavailable) = (Arc::default(), Arc::default(), Arc::default());
        let (asker, token) = (asker.clone(), token.to_owned());
        let task = tokio::spawn({
            let (stop, asked, unavailable) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&unavailable));
            async move {
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    match asker.ask(&token).await {
                        Ok(answer) => assert_eq!(answer.verdict(), Verdict::Valid, "a key that lives was refused"),
                        Err(status) => {
                            assert_eq!(reason(&status), "NO_LEASE");
                            AtomicUsize::fetch_add(&unavailable, 1, Ordering::Relaxed);
                        }
                    }
                    AtomicUsize::fetch_add(&asked, 1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        });
        Self { stop, asked, unavailable, task }
    }

    /// How often it has asked, and how often there was no answer.
    async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        (self.asked.load(Ordering::Relaxed), self.unavailable.load(Ordering::Relaxed))
    }
}

/// Sessions that a validator has begun.
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
async fn an_admin_that_is_alone_over_its_database_fences_by_acks_in_milliseconds() {
    const TIMES: usize = 200;
    let cluster = Cluster::start(&[]);
    let process = cluster.admin("a1");
    let admin = admin_of(&cluster, &process).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let validators =
        [cluster.validator("v1", &process, &[process.at]), cluster.validator("v2", &process, &[process.at])];
    let askers = [Asker::connect(validators[0].grpc).await, Asker::connect(validators[1].grpc).await];
    assert_eq!(askers[0].verdict(&token).await, Verdict::Valid);
    let mut micros = Vec::new();
    for n in 0..TIMES {
        let name = format!("k{n}");
        let made = admin.create_key("6666", &name).await.unwrap();
        assert_eq!(made.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Deactivated);
        }
        micros.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap().as_micros());
    }
    let figures = percentiles(micros);
    report::line(&format!("figure: fence after commit, PostgreSQL, 1 admin, 2 validators, {TIMES}: {figures}"));
}

/// Each hears from the other how its validators stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_that_ask_each_other_fence_by_acks_in_milliseconds() {
    const TIMES: usize = 200;
    let cluster = Cluster::start(&[]);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let admins = [admin_of(&cluster, &processes[0]).await, admin_of(&cluster, &processes[1]).await];
    admins[0].create_project("6666").await.unwrap();
    let (mut validators, mut askers) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let validator = cluster.validator(&format!("v{n}"), &processes[0], &[processes[n % 2].at]);
        askers.push(Asker::connect(validator.grpc).await);
        validators.push(validator);
    }
    let mut micros = Vec::new();
    for n in 0..TIMES {
        let (admin, name) = (&admins[n % 2], format!("k{n}"));
        let made = admin.create_key("6666", &name).await.unwrap();
        let receipt = made.receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 4), "{receipt:?}");
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admins[(n + 1) % 2].deactivate("6666", &name).await.unwrap().receipt.unwrap();
        let told = (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed);
        assert_eq!(told, (EnforcedBy::Acks, 4, 0), "{receipt:?}");
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Deactivated);
        }
        micros.push(Duration::try_from(receipt.elapsed.unwrap()).unwrap().as_micros());
    }
    let figures = percentiles(micros);
    report::line(&format!("figure: fence after commit, PostgreSQL, 2 admins, 4 validators, {TIMES}: {figures}"));
}

/// For D − 3 s the database takes what it is asked and answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stalls_for_less_than_a_lease_leaves_no_request_without_an_answer() {
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
        let asker = Asker::connect(validator.grpc).await;
        until_valid(&asker, &control).await;
        loads.push(Load::on(&asker, &control));
    }
    // Until leases are as long as they get.
    tokio::time::sleep(Duration::from_secs(2)).await;
    databases.iter().for_each(|database| database.set(Network::Silent));
    tokio::time::sleep(STALL).await;
    databases.iter().for_each(|database| database.set(Network::Whole));
    // A lease from before the stall is over by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut asked, mut unavailable) = (0, 0);
    for load in loads {
        let (all, without) = load.end().await;
        asked += all;
        unavailable += without;
    }
    report::line(&format!("a database that stalls for {STALL:?}, D = 10 s: {unavailable} of {asked} unavailable"));
    assert_eq!(unavailable, 0);
    assert!(admin.create_key("6666", "after").await.is_ok());
}

/// The promise with two admins that do not ask each other: by waiting, whichever of them is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_after_the_return_while_validators_move_between_admins() {
    let cluster = Cluster::start(&LEASE);
    let processes = [cluster.lonely_admin("a1"), cluster.lonely_admin("a2")];
    let moves = Moves { at_least: 200, rest: Duration::ZERO };
    deactivate_among_moves(&cluster, processes, "that wait", moves, |by_acks| by_acks == 0).await;
}

/// The same with two that do. What a validator was granted on a stream that broke is waited out; by answers alone a call
/// returns while no such lease is left, so there is a rest between the moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_after_an_early_return_while_validators_move_between_admins() {
    let cluster = Cluster::start(&LEASE);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let moves = Moves { at_least: 20, rest: Duration::from_secs(3) };
    deactivate_among_moves(&cluster, processes, "that ask each other", moves, |by_acks| by_acks > 0).await;
}

/// How validators are moved.
#[derive(Clone, Copy, Debug)]
struct Moves {
    at_least: usize,
    /// After each validator has been moved once.
    rest: Duration,
}

/// Deactivates keys at either admin, while validators are just moving to the other. `fits`: judges how many deactivations
/// returned on acks.
async fn deactivate_among_moves(
    cluster: &Cluster,
    processes: [AdminProcess; 2],
    admins_are: &str,
    Moves { at_least, rest }: Moves,
    fits: fn(usize) -> bool,
) {
    const KEYS: usize = 200;
    const AT_ONCE: usize = 25;
    let admins = [admin_of(cluster, &processes[0]).await, admin_of(cluster, &processes[1]).await];
    let control = admins[0].create_project("6666").await.unwrap().default_token;
    let (mut validators, mut askers, mut networks) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..4 {
        let ways = [Proxy::to(processes[0].at).await, Proxy::to(processes[1].at).await];
        // It begins with the first or with the second, so that either has some.
        ways[(n + 1) % 2].set(Network::Cut);
        let validator = cluster.validator(&format!("v{n}"), &processes[0], &[ways[0].at, ways[1].at]);
        askers.push(Asker::connect(validator.grpc).await);
        validators.push(validator);
        networks.push(ways);
    }
    let mut tokens = Vec::new();
    for n in 0..KEYS {
        tokens.push(admins[n % 2].create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    for asker in &askers {
        until_valid(asker, &tokens[KEYS - 1]).await;
    }
    let load: Vec<_> = askers.iter().map(|asker| Load::on(asker, &control)).collect();

    let done = Arc::new(AtomicBool::new(false));
    // Each validator loses the admin that it has, and finds the other; again and again.
    let mover = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut moves = 0;
            while moves < at_least || !done.load(Ordering::Relaxed) {
                for (n, ways) in networks.iter().enumerate() {
                    let side = (moves / networks.len() + n) % 2;
                    ways[1 - side].set(Network::Whole);
                    ways[side].set(Network::Cut);
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                moves += networks.len();
                tokio::time::sleep(rest).await;
            }
            networks.iter().flatten().for_each(|way| way.set(Network::Whole));
            networks
        }
    });
    let (mut longest, mut unanswered, mut by_acks) = (Duration::ZERO, 0, 0);
    for (chunk, tokens) in tokens.chunks(AT_ONCE).enumerate() {
        let calls: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                let (admin, askers, token) = (admins[n % 2].clone(), askers.clone(), token.clone());
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let name = format!("k{}", chunk * AT_ONCE + n);
                    let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
                    let took = begun.elapsed();
                    assert_ne!(receipt.enforced_by(), EnforcedBy::Pending, "{receipt:?}");
                    let mut unanswered = 0;
                    for asker in &askers {
                        unanswered += usize::from(!must_not_accept(asker, &token).await);
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
        for asker in &askers {
            must_not_accept(asker, token).await;
        }
    }
    let moves: usize = validators.iter().map(|validator| sessions(validator) - 1).sum();
    let (mut asked, mut unavailable) = (0, 0);
    for load in load {
        let (all, without) = load.end().await;
        asked += all;
        unavailable += without;
    }
    report::line(&format!(
        "PostgreSQL, 2 admins {admins_are}, 4 validators, D = 2 s: {KEYS} deactivations, {by_acks} of them by acks, {moves} \
         moves, 0 accepted after the return ({unanswered} of {} unanswered), longest {longest:?}; {unavailable} of {asked} \
         unavailable beside",
        KEYS * 4
    ));
    assert!(moves >= at_least, "{moves}");
    assert!(fits(by_acks), "{by_acks}");
    assert!(longest < WAIT_OUT + NOISE, "{longest:?}");
}

/// It goes on to talk to its validators, and must not keep them answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_is_cut_from_the_database_keeps_no_validator_answering_beyond_a_lease() {
    for network in [Network::Silent, Network::Cut] {
        let cluster = Cluster::start(&LEASE);
        let database = Proxy::to(cluster.database_at()).await;
        let cut_off = cluster.admin_through("a1", &cluster.url_through(database.at));
        let well = cluster.admin("a2");
        let admin = admin_of(&cluster, &well).await;
        let control = admin.create_project("6666").await.unwrap().default_token;
        // One that knows the cut-off admin only; one that has both, and that one first.
        let way = Proxy::to(well.at).await;
        way.set(Network::Cut);
        let bound = cluster.validator("bound", &well, &[cut_off.at]);
        let free = cluster.validator("free", &well, &[cut_off.at, way.at]);
        way.set(Network::Whole);
        let (bound_asker, free_asker) = (Asker::connect(bound.grpc).await, Asker::connect(free.grpc).await);
        let tokens =
            [admin.create_key("6666", "a").await.unwrap().token, admin.create_key("6666", "b").await.unwrap().token];
        for asker in [&bound_asker, &free_asker] {
            until_valid(asker, &tokens[1]).await;
        }
        let load = Load::on(&free_asker, &control);

        database.set(network);
        for (name, token) in ["a", "b"].into_iter().zip(&tokens) {
            let begun = Instant::now();
            let receipt = admin.deactivate("6666", name).await.unwrap().receipt.unwrap();
            // The second finds the silent admin struck off already.
            let expected = if name == "a" { EnforcedBy::WaitOut } else { EnforcedBy::Acks };
            assert_eq!(receipt.enforced_by(), expected, "{receipt:?}");
            assert!(begun.elapsed() < WAIT_OUT + NOISE, "{:?}", begun.elapsed());
            assert!(!must_not_accept(&bound_asker, token).await, "it can have heard of nothing");
            assert!(must_not_accept(&free_asker, token).await, "it has gone to the other admin");
        }
        assert_eq!(web::get(cut_off.ops, "/readyz", &[]).await.status, 503);
        let (asked, unavailable) = load.end().await;
        report::line(&format!("an admin cut from its database ({network:?}): {unavailable} of {asked} unavailable"));
        assert_eq!(unavailable, 0, "the validator with two admins moved in time");
        assert!(free.process.log().contains("moved to another admin"));

        // What was struck off meanwhile begins another life.
        database.set(Network::Cut);
        database.set(Network::Whole);
        until_valid(&bound_asker, &control).await;
        for token in &tokens {
            assert!(must_not_accept(&bound_asker, token).await);
        }
    }
}

/// A killed admin's row is waited for, and struck off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_the_other_admin_waits_once_and_is_then_as_quick_as_alone() {
    let cluster = Cluster::start(&LEASE);
    let mut killed = cluster.admin("a1");
    let stays = cluster.admin("a2");
    let admin = admin_of(&cluster, &stays).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    let (v1, v2) = (
        cluster.validator("v1", &stays, &[killed.at, stays.at]),
        cluster.validator("v2", &stays, &[killed.at, stays.at]),
    );
    let askers = [Asker::connect(v1.grpc).await, Asker::connect(v2.grpc).await];
    let mut tokens = Vec::new();
    for n in 0..3 {
        tokens.push(admin.create_key("6666", &format!("k{n}")).await.unwrap().token);
    }
    for asker in &askers {
        until_valid(asker, &tokens[2]).await;
    }
    let load: Vec<_> = askers.iter().map(|asker| Load::on(asker, &control)).collect();
    killed.process.kill();
    let begun = Instant::now();
    let receipt = admin.deactivate("6666", "k0").await.unwrap().receipt.unwrap();
    assert_eq!(receipt.enforced_by(), EnforcedBy::WaitOut, "{receipt:?}");
    assert!(begun.elapsed() < WAIT_OUT + NOISE, "{:?}", begun.elapsed());
    for asker in &askers {
        assert!(must_not_accept(asker, &tokens[0]).await, "both have the other admin");
    }
    let mut log = stays.process;
    log.wait_for("the dead one to be struck off", |p| p.log().contains("struck off").then_some(()));
    let receipt = admin.deactivate("6666", "k1").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
    for asker in &askers {
        assert!(must_not_accept(asker, &tokens[1]).await);
    }
    for load in load {
        let (asked, unavailable) = load.end().await;
        assert_eq!(unavailable, 0, "of {asked}: the lease outlasts the move");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_leaves_in_good_order_costs_nobody_anything() {
    let cluster = Cluster::start(&[]);
    let mut leaves = cluster.admin("a1");
    let stays = cluster.admin("a2");
    let admin = admin_of(&cluster, &stays).await;
    let control = admin.create_project("6666").await.unwrap().default_token;
    admin.create_key("6666", "a").await.unwrap();
    let way = Proxy::to(stays.at).await;
    way.set(Network::Cut);
    let edge = cluster.validator("edge", &stays, &[leaves.at, way.at]);
    way.set(Network::Whole);
    let asker = Asker::connect(edge.grpc).await;
    until_valid(&asker, &control).await;
    let load = Load::on(&asker, &control);
    leaves.process.terminate();
    assert!(edge.process.log().contains("moved to another admin"), "{}", edge.process.log());
    // D is 10 s here: had anything been left to wait for, it would show.
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 1), "{receipt:?}");
    let (asked, unavailable) = load.end().await;
    assert_eq!(unavailable, 0, "of {asked}");
}

/// One that wakes up finds its row gone, and its leases with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_slept_until_it_was_struck_off_begins_anew_and_grants_nothing_by_its_old_life() {
    let cluster = Cluster::start(&LEASE);
    let (sleeper, other) = (cluster.admin("a1"), cluster.admin("a2"));
    let admin = admin_of(&cluster, &other).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let later = admin.create_key("6666", "b").await.unwrap().token;
    let edge = cluster.validator("edge", &other, &[sleeper.at]);
    let asker = Asker::connect(edge.grpc).await;
    until_valid(&asker, &later).await;
    sleeper.process.signal(Signal::STOP);
    admin.deactivate("6666", "a").await.unwrap();
    let mut other = other;
    other.process.wait_for("the sleeper to be struck off", |p| p.log().contains("struck off").then_some(()));
    sleeper.process.signal(Signal::CONT);
    loop {
        if must_not_accept(&asker, &token).await {
            break;
        }
    }
    until_valid(&asker, &later).await;
    assert!(sleeper.process.log().contains("beginning anew"));
    let receipt = admin.deactivate("6666", "b").await.unwrap().receipt.unwrap();
    let told = (receipt.enforced_by(), receipt.validators_acked);
    assert_eq!(told, (EnforcedBy::Acks, 1), "its new life has the validator, and is asked: {receipt:?}");
    must_not_accept(&asker, &later).await;
}

/// Whatever it was doing: what it acknowledged is there, and what it was about to do is there whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_is_killed_between_any_two_statements_loses_nothing_that_it_acknowledged() {
    const KILLS: usize = 6;
    const CLIENTS: usize = 8;
    let cluster = Cluster::start(&LEASE);
    let stays = cluster.admin("stays");
    let admin = admin_of(&cluster, &stays).await;
    admin.create_project("6666").await.unwrap();
    let (mut acknowledged, mut asked) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut dies = cluster.admin(&format!("dies{kill}"));
        let through = admin_of(&cluster, &dies).await;
        let made = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (through, made) = (through.clone(), Arc::clone(&made));
                tokio::spawn(async move {
                    let (mut mine, mut n) = (Vec::new(), 0);
                    // Until the process is gone.
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
        // At another place of the clients' rhythm each time.
        while made.load(Ordering::Relaxed) < 40 + kill {
            tokio::task::yield_now().await;
        }
        dies.process.kill();
        for client in clients {
            let (mine, tried) = client.await.unwrap();
            acknowledged.extend(mine);
            asked += tried;
        }
    }
    // The other one's database connections find no lock that a dead process holds.
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
    assert_eq!(receipt.revision - first + 1, i64::try_from(keys.len()).unwrap(), "a gap, or half a key");
    report::line(&format!(
        "kill -9 of {KILLS} admins among creates over PostgreSQL: {asked} asked, {} acknowledged, {} committed, 0 lost, \
         0 gaps",
        acknowledged.len(),
        keys.len() - 2
    ));
}
