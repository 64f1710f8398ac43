//! Random faults under load: real processes over a real PostgreSQL are killed, suspended, cut off, slowed down and
//! restarted at random, and every answer is checked against the guarantee.
//!
//! `KEYWARD_CHAOS_SECONDS` sets the length of a run, `KEYWARD_CHAOS_SEED` its seed. The seed determines which faults
//! are injected when. The processes' own timing is not determined, so a seed reproduces a failure only approximately.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod clients;
mod dice;
mod faults;
mod history;
mod keys;
mod monitor;
mod operators;
mod run;
mod schedule;
mod site;
mod tally;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_proto::admin::WaitEnforcedRequest;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::report;
use tokio::task::JoinSet;

use crate::history::{History, Kind};
use crate::keys::{KeyPool, TrackedKey, name_of};
use crate::operators::Operator;
use crate::run::Run;
use crate::schedule::{Lane, VALIDATORS, schedule};
use crate::site::{PROJECT, Site};

/// The length of a run. Only the full proof runs it.
const SECONDS: u64 = 60;

/// The seed of the test command: the same faults every time, as far as the machine's timing allows.
const SEED: u64 = 0x5EED_C4A0_5001;

/// How many keys stay active during the run, and how many stay deactivated.
const STABLE_KEYS: usize = 50;

const OPERATORS: u64 = 80;

/// The lowest rate at which a run counts as a test.
const VALIDATIONS_PER_SECOND: u64 = 5_000;

/// The longest time until everything works after the last fault has ended.
const RECOVERY: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    Some(parsed.unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deactivated_keys_are_refused_and_active_keys_accepted_under_random_faults() {
    let seconds = number("KEYWARD_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("KEYWARD_CHAOS_SEED").unwrap_or(SEED);
    let lanes = schedule(seed, Duration::from_secs(seconds));
    announce(seed, seconds, &lanes);
    let site = Site::start().await;
    let keys = prepare_keys(&site).await;
    let run = Arc::new(Run::new(seed, site, keys));
    let tasks = Box::pin(run_with_faults(&run, lanes, Duration::from_secs(seconds))).await;
    let recovered = recover(&run).await;
    drop(tasks);
    report_and_check(&run, seconds, recovered);
}

fn announce(seed: u64, seconds: u64, lanes: &[Lane]) {
    report::line(&format!(
        "chaos: again by KEYWARD_CHAOS_SEED={seed:#x} KEYWARD_CHAOS_SECONDS={seconds} \
         cargo proof --test chaos -- --nocapture\n\
         faults: | at second, fault, for seconds"
    ));
    for lane in lanes {
        report::line(&lane.to_string());
    }
}

/// Creates the keys that stay unchanged during the run, and waits until every validator knows them.
async fn prepare_keys(site: &Site) -> KeyPool {
    let admin = Admin::connect(site.admins[0].at, &site.root).await;
    let (mut keys, mut newest, mut ends) = (KeyPool::default(), 0, JoinSet::new());
    for n in 0..STABLE_KEYS * 2 {
        let key_id = format!("stable{n}");
        let (key, revision) = create(&admin, &key_id).await;
        newest = revision;
        if n < STABLE_KEYS {
            keys.active.push(key);
            continue;
        }
        keys.deactivated.push(Arc::clone(&key));
        let admin = admin.clone();
        ends.spawn(async move { deactivate(&admin, &key_id, &key).await });
    }
    ends.join_all().await;
    admin.keys.clone().wait_enforced(WaitEnforcedRequest { revision: newest }).await.unwrap();
    // A key's creation is its first change.
    keys.active.iter().for_each(|key| key.enforced(0));
    keys
}

/// Creates a key while there are no faults. Returns it with its revision.
async fn create(admin: &Admin, key_id: &str) -> (Arc<TrackedKey>, i64) {
    let mut history = History::default();
    let call = history.begin(Kind::Create, Instant::now());
    let made = admin.create_key(PROJECT, key_id).await.unwrap();
    let revision = made.receipt.unwrap().revision;
    history.committed(call, revision, Instant::now());
    let key = TrackedKey { name: name_of(key_id), token: made.token, history: Mutex::new(history) };
    (Arc::new(key), revision)
}

async fn deactivate(admin: &Admin, key_id: &str, key: &TrackedKey) {
    let call = key.begin(Kind::Deactivate);
    let receipt = admin.deactivate(PROJECT, key_id).await.unwrap().receipt.unwrap();
    key.committed(call, receipt.revision);
    key.enforced(call);
}

/// Runs clients, operators and faults until the last fault has ended or a violation was found. Returns the tasks that
/// must go on.
async fn run_with_faults(run: &Arc<Run>, lanes: Vec<Lane>, length: Duration) -> JoinSet<()> {
    let (mut tasks, mut faults) = (JoinSet::new(), JoinSet::new());
    tasks.spawn(monitor::watch_commits(Arc::clone(run)));
    tasks.spawn(monitor::watch_noise(Arc::clone(run)));
    tasks.spawn(faults::supervise(Arc::clone(run)));
    for validator in 0..VALIDATORS {
        tasks.spawn(clients::by_batch(Arc::clone(run), validator));
        tasks.spawn(clients::by_call(Arc::clone(run), validator));
        tasks.spawn(clients::by_stream(Arc::clone(run), validator));
    }
    for number in 0..OPERATORS {
        tasks.spawn(Operator::connect(Arc::clone(run), number).await.work());
    }
    for lane in lanes {
        faults.spawn(faults::inject_lane(Arc::clone(run), lane));
    }
    let ended = async {
        while let Some(lane) = faults.join_next().await {
            lane.unwrap();
        }
        tokio::time::sleep_until((run.begun + length).into()).await;
    };
    tokio::select! {
        () = ended => {}
        () = run.tally.violated.notified() => {}
    }
    run.end();
    tasks
}

/// Checks the recovery after the last fault: each admin can create and deactivate a key, and every validator answers
/// for every key. Returns how long that took, or `None` after a violation.
async fn recover(run: &Arc<Run>) -> Option<Duration> {
    let begun = Instant::now();
    if !run.tally.violations().is_empty() {
        return None;
    }
    run.site.ready().await;
    for (n, admin) in run.site.admins.iter().enumerate() {
        let admin = Admin::connect(admin.at, &run.site.root).await;
        let key_id = format!("after{n}");
        let (key, _) = create(&admin, &key_id).await;
        run.keys.add(Arc::clone(&key));
        deactivate(&admin, &key_id, &key).await;
    }
    for validator in 0..VALIDATORS {
        let client = ValidatorClient::connect(run.site.validators[validator].at).await;
        for some in run.keys.all().chunks(100) {
            while !clients::validate_batch(run, validator, &client, some).await {
                assert!(begun.elapsed() < RECOVERY, "v{validator} did not recover");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Some(begun.elapsed())
}

fn report_and_check(run: &Run, seconds: u64, recovered: Option<Duration>) {
    let faults = run.fault_counts.by_kind();
    let recovered = recovered.map_or("not checked".to_owned(), |time| format!("validated again within {time:?}"));
    let counts: Vec<_> = faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    report::line(&format!(
        "chaos, seed {:#x}, {seconds} s, PostgreSQL, 2 admins, 4 validators, D = 2 s:\n\
         {}\n{}\nall keys after the last fault: {recovered}",
        run.seed,
        counts.join(", "),
        run.tally.figures(seconds)
    ));
    let violations = run.tally.violations();
    let panics: Vec<_> = run.site.programs().flat_map(site::Program::panics).collect();
    if !violations.is_empty() || !panics.is_empty() {
        panic!("{violations:#?}\n{panics:#?}\nlogs: {}", run.site.keep_logs().display());
    }
    let missing = run.tally.missing();
    assert!(
        faults.iter().all(|(_, count)| *count > 0) && missing.is_empty(),
        "the run was no test: it had no {missing:?}"
    );
    let rate = run.tally.verdicts() as u64 / seconds.max(1);
    assert!(rate >= VALIDATIONS_PER_SECOND, "the run was no test: {rate} validations per second");
}
