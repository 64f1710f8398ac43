//! Everything fails at once, by the dice, and the promise holds: real processes over a real PostgreSQL, killed, stopped,
//! cut off, slowed and restarted, under load, with every answer judged as it comes.
//!
//! `KEYWARD_CHAOS_SECONDS` makes a run longer, `KEYWARD_CHAOS_SEED` another one. What fails when is the seed's; what the
//! processes do about it is their own, so that a seed brings a fault back as often as the machine goes along.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod clients;
mod crowd;
mod dice;
mod faults;
mod history;
mod operators;
mod run;
mod schedule;
mod site;
mod tally;
mod witness;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_proto::admin::WaitEnforcedRequest;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::report;
use tokio::task::JoinSet;

use crate::crowd::{Crowd, Subject, name_of};
use crate::history::{Deed, History};
use crate::operators::Operator;
use crate::run::Run;
use crate::schedule::{Lane, VALIDATORS, schedule};
use crate::site::{PROJECT, Site};

/// In the test command.
const SECONDS: u64 = 60;

/// The same faults every time, as far as the machine goes along.
const SEED: u64 = 0x5EED_C4A0_5001;

/// Keys that nobody touches while things fail: so many alive, and so many dead.
const STILL: usize = 50;

const OPERATORS: u64 = 80;

/// What has to be checked for the run to count.
const VALIDATIONS_PER_SECOND: u64 = 5_000;

/// How long until all is well after the last fault has ended.
const RECOVERY: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    Some(parsed.unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dead_is_refused_and_what_lives_is_not_whatever_fails() {
    let seconds = number("KEYWARD_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("KEYWARD_CHAOS_SEED").unwrap_or(SEED);
    let lanes = schedule(seed, Duration::from_secs(seconds));
    announce(seed, seconds, &lanes);
    let site = Site::start().await;
    let crowd = settle(&site).await;
    let run = Arc::new(Run::new(seed, site, crowd));
    let tasks = Box::pin(live_through(&run, lanes, Duration::from_secs(seconds))).await;
    let recovered = recover(&run).await;
    drop(tasks);
    conclude(&run, seconds, recovered);
}

fn announce(seed: u64, seconds: u64, lanes: &[Lane]) {
    report::line(&format!(
        "chaos: again by KEYWARD_CHAOS_SEED={seed:#x} KEYWARD_CHAOS_SECONDS={seconds} \
         cargo test --workspace --test chaos -- --nocapture\n\
         what fails: | at second, what, for so many seconds"
    ));
    for lane in lanes {
        report::line(&lane.to_string());
    }
}

/// Makes the keys that nobody touches, and waits until every validator knows them.
async fn settle(site: &Site) -> Crowd {
    let admin = Admin::connect(site.admins[0].at, &site.root).await;
    let (mut crowd, mut newest, mut ends) = (Crowd::default(), 0, JoinSet::new());
    for n in 0..STILL * 2 {
        let key_id = format!("still{n}");
        let (subject, revision) = create(&admin, &key_id).await;
        newest = revision;
        if n < STILL {
            crowd.living.push(subject);
            continue;
        }
        crowd.dead.push(Arc::clone(&subject));
        let admin = admin.clone();
        ends.spawn(async move { deactivate(&admin, &key_id, &subject).await });
    }
    ends.join_all().await;
    admin.keys.clone().wait_enforced(WaitEnforcedRequest { revision: newest }).await.unwrap();
    // A key's creation is its first change.
    crowd.living.iter().for_each(|subject| subject.enforced(0));
    crowd
}

/// Creates a key while all is well; with the revision of that.
async fn create(admin: &Admin, key_id: &str) -> (Arc<Subject>, i64) {
    let mut history = History::default();
    let call = history.begin(Deed::Create, Instant::now());
    let made = admin.create_key(PROJECT, key_id).await.unwrap();
    let revision = made.receipt.unwrap().revision;
    history.committed(call, revision, Instant::now());
    let subject = Subject { name: name_of(key_id), token: made.token, history: Mutex::new(history) };
    (Arc::new(subject), revision)
}

async fn deactivate(admin: &Admin, key_id: &str, subject: &Subject) {
    let call = subject.begin(Deed::Deactivate);
    let receipt = admin.deactivate(PROJECT, key_id).await.unwrap().receipt.unwrap();
    subject.committed(call, receipt.revision);
    subject.enforced(call);
}

/// Everything at once, until the last fault has ended or something has happened that must not. Returns what is still to be
/// kept up.
async fn live_through(run: &Arc<Run>, lanes: Vec<Lane>, length: Duration) -> JoinSet<()> {
    let (mut tasks, mut faults) = (JoinSet::new(), JoinSet::new());
    tasks.spawn(witness::watch_commits(Arc::clone(run)));
    tasks.spawn(witness::watch_noise(Arc::clone(run)));
    tasks.spawn(faults::supervise(Arc::clone(run)));
    for validator in 0..VALIDATORS {
        tasks.spawn(clients::by_batch(Arc::clone(run), validator));
        tasks.spawn(clients::by_call(Arc::clone(run), validator));
        tasks.spawn(clients::by_stream(Arc::clone(run), validator));
    }
    for number in 0..OPERATORS {
        tasks.spawn(Operator::hire(Arc::clone(run), number).await.work());
    }
    for lane in lanes {
        faults.spawn(faults::befall(Arc::clone(run), lane));
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

/// Nothing fails any more: soon either admin ends a key, and every validator answers about every key. How long that took.
async fn recover(run: &Arc<Run>) -> Option<Duration> {
    let begun = Instant::now();
    if !run.tally.violations().is_empty() {
        return None;
    }
    run.site.ready().await;
    for (n, admin) in run.site.admins.iter().enumerate() {
        let admin = Admin::connect(admin.at, &run.site.root).await;
        let key_id = format!("after{n}");
        let (subject, _) = create(&admin, &key_id).await;
        run.crowd.add(Arc::clone(&subject));
        deactivate(&admin, &key_id, &subject).await;
    }
    for validator in 0..VALIDATORS {
        let client = ValidatorClient::connect(run.site.validators[validator].at).await;
        for some in run.crowd.all().chunks(100) {
            while !clients::ask_batch(run, validator, &client, some).await {
                assert!(begun.elapsed() < RECOVERY, "v{validator} does not come back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Some(begun.elapsed())
}

fn conclude(run: &Run, seconds: u64, recovered: Option<Duration>) {
    let faults = run.done.by_kind();
    let told: Vec<_> = faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    report::line(&format!(
        "chaos, seed {:#x}, {seconds} s, PostgreSQL, 2 admins, 4 validators, D = 2 s:\n\
         {}\n{}\nall that was asked about asked again after it, all was well within {recovered:?}",
        run.seed,
        told.join(", "),
        run.tally.figures(seconds)
    ));
    let violations = run.tally.violations();
    let panics: Vec<_> = run.site.programs().flat_map(site::Program::panics).collect();
    if !violations.is_empty() || !panics.is_empty() {
        panic!("{violations:#?}\n{panics:#?}\nlogs: {}", run.site.keep_logs().display());
    }
    let missing = run.tally.missing();
    assert!(faults.iter().all(|(_, count)| *count > 0) && missing.is_empty(), "not a test: without {missing:?}");
    let rate = run.tally.verdicts() as u64 / seconds.max(1);
    assert!(rate >= VALIDATIONS_PER_SECOND, "not a test: {rate} validations per second");
}
