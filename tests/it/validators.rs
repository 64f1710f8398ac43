//! Validators as processes of their own, fed by an admin over TCP.

use std::time::{Duration, Instant};

use keyward_proto::admin::key::Enforcement;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{DeactivateKeyRequest, GetKeyRequest, WaitEnforcedRequest};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, reason, violation};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, web};
use rustix::process::Signal;
use tonic::Code;

/// A lease short enough to wait for.
const LEASE: [&str; 2] = ["--lease", "2s"];

/// D' for it: 2 s × 1.1 / 0.9 and 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// What this machine's noise may add.
const NOISE: Duration = Duration::from_secs(1);

/// Asks until there is no answer, which must be for want of a lease, and returns how long that took.
async fn until_unavailable(asker: &Asker, token: &str) -> Duration {
    let begun = Instant::now();
    loop {
        if let Err(status) = asker.ask(token).await {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "still answers without an admin");
    }
}

async fn until_valid(asker: &Asker, token: &str) {
    let begun = Instant::now();
    while !asker.ask(token).await.is_ok_and(|answer| answer.verdict() == Verdict::Valid) {
        assert!(begun.elapsed() < Duration::from_secs(30), "does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn deactivate_waits_for_every_connected_validator() {
    const TIMES: usize = 200;
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let validators = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2")];
    let mut askers = vec![Asker::connect(serve.validator).await];
    for validator in &validators {
        askers.push(Asker::connect(validator.grpc).await);
    }
    for n in 0..TIMES {
        let name = format!("k{n}");
        let made = admin.create_key("6666", &name).await.unwrap();
        assert_eq!(made.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        assert_eq!(
            (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed),
            (EnforcedBy::Acks, 3, 0)
        );
        for asker in &askers {
            assert_eq!(asker.verdict(&made.token).await, Verdict::Deactivated);
        }
    }
}

/// Neither a break nor silence ends a lease before its time, and nothing prolongs it.
#[tokio::test]
async fn a_validator_without_its_admin_answers_to_the_end_of_its_lease_and_goes_on_from_where_it_was() {
    let serve = Serve::start_with(&LEASE);
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let edge = serve.spawn_validator("edge");
    let asker = Asker::connect(edge.grpc).await;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);

    // The stream breaks.
    let mut serve = serve;
    serve.process.kill();
    let rode_out = until_unavailable(&asker, &token).await;
    assert!(rode_out > Duration::from_secs(1) && rode_out < Duration::from_secs(2) + NOISE, "{rode_out:?}");
    assert_eq!(web::get(edge.hook, "/auth", &[("x-api-key", &token)]).await.status, 503);
    assert_eq!(web::get(edge.ops, "/readyz", &[]).await.status, 503);
    assert_eq!(web::get(edge.ops, "/livez", &[]).await.status, 200);
    let serve = serve.restart(true);
    until_valid(&asker, &token).await;

    // The admin falls silent: its connection stands, but nothing comes.
    let admin = Admin::connect(serve.admin, &root).await;
    let later = admin.create_key("6666", "later").await.unwrap().token;
    assert_eq!(asker.verdict(&later).await, Verdict::Valid);
    serve.process.signal(Signal::STOP);
    let rode_out = until_unavailable(&asker, &token).await;
    serve.process.signal(Signal::CONT);
    assert!(rode_out > Duration::from_secs(1) && rode_out < Duration::from_secs(2) + NOISE, "{rode_out:?}");
    until_valid(&asker, &later).await;
    let log = serve.process.log();
    let joins = log.lines().filter(|line| line.contains("a validator joins") && !line.contains("in-process"));
    let joins: Vec<_> = joins.collect();
    // It had missed nothing while it was alone, so it took no snapshot again.
    assert!(!joins.is_empty() && joins.iter().all(|line| line.contains("\"snapshot\":false")), "{joins:?}");
}

#[tokio::test]
async fn a_deadline_that_is_too_short_says_committed_and_any_retry_waits_on() {
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let asker = Asker::connect(edge.grpc).await;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    edge.process.signal(Signal::STOP);
    let name = "projects/6666/keys/a".to_owned();
    let mut request = tonic::Request::new(DeactivateKeyRequest { name: name.clone(), etag: String::new() });
    request.set_timeout(Duration::from_millis(600));
    let status = admin.keys.clone().deactivate_key(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "NOT_YET_ENFORCED"), "{status:?}");
    assert!(status.message().contains("committed at revision"), "{}", status.message());
    let get = || async {
        let request = GetKeyRequest { name: name.clone() };
        admin.keys.clone().get_key(request).await.unwrap().into_inner().key.unwrap()
    };
    let key = get().await;
    assert_eq!(key.enforcement(), Enforcement::Pending, "a dashboard must not say dead before it is");

    // Both retries wait until the stopped validator can no longer answer from before.
    let mut keys = admin.keys.clone();
    let wait = keys.wait_enforced(WaitEnforcedRequest { revision: key.revision });
    let (waited, again) = tokio::join!(wait, admin.deactivate("6666", "a"));
    for receipt in [waited.unwrap().into_inner().receipt.unwrap(), again.unwrap().receipt.unwrap()] {
        assert_eq!(receipt.revision, key.revision);
        assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    }
    assert_eq!(get().await.enforcement(), Enforcement::Enforced);
    edge.process.signal(Signal::CONT);
    never_valid_again(&asker, &token).await;
    for revision in [0, -1, key.revision + 1] {
        let status = admin.keys.clone().wait_enforced(WaitEnforcedRequest { revision }).await.unwrap_err();
        assert_eq!(violation(&status).0, "revision");
    }
}

/// Asks until the validator answers again; until then it must have no lease, and then it must refuse.
async fn never_valid_again(asker: &Asker, token: &str) {
    loop {
        match asker.ask(token).await {
            Ok(answer) => return assert_eq!(answer.verdict(), Verdict::Deactivated),
            Err(status) => assert_eq!(reason(&status), "NO_LEASE"),
        }
    }
}

/// The promise while validators are stopped at any moment and resumed: the first thing that a resumed one is asked was
/// asked after the return.
#[tokio::test]
async fn a_stopped_validator_delays_a_deactivation_by_one_lease_at_most_and_accepts_nothing_after_it() {
    const TIMES: u32 = 8;
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let validators = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2")];
    let askers = [Asker::connect(validators[0].grpc).await, Asker::connect(validators[1].grpc).await];
    let mut longest = Duration::ZERO;
    for n in 0..TIMES {
        let name = format!("k{n}");
        let token = admin.create_key("6666", &name).await.unwrap().token;
        for asker in &askers {
            until_valid(asker, &token).await;
        }
        let stopped = &validators[n as usize % 2];
        // At another place of the renewal's rhythm each time.
        tokio::time::sleep(Duration::from_millis(u64::from(n) * 37)).await;
        stopped.process.signal(Signal::STOP);
        let begun = Instant::now();
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        longest = longest.max(begun.elapsed());
        stopped.process.signal(Signal::CONT);
        for asker in &askers {
            never_valid_again(asker, &token).await;
        }
        assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    }
    report::line(&format!("figure: deactivations with a stopped validator, D = 2 s: longest of {TIMES}: {longest:?}"));
    assert!(longest < WAIT_OUT + NOISE, "{longest:?}");
}

/// A restarted admin knows nobody, but what it granted in its former life is still in use.
#[tokio::test]
async fn a_restarted_admin_waits_for_the_leases_of_its_former_life() {
    let serve = Serve::start_with(&LEASE);
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let asker = Asker::connect(edge.grpc).await;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    // It cannot come back to the new life, and keeps its lease of the old one.
    edge.process.signal(Signal::STOP);
    let serve = serve.restart(true);
    let admin = Admin::connect(serve.admin, &root).await;
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    edge.process.signal(Signal::CONT);
    never_valid_again(&asker, &token).await;
    assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    // Afterwards it is as quick as ever.
    until_valid(&asker, &admin.create_key("6666", "b").await.unwrap().token).await;
    let receipt = admin.deactivate("6666", "b").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
}

#[tokio::test]
async fn a_validator_that_leaves_in_good_order_delays_nobody() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_key("6666", "a").await.unwrap();
    let mut edge = serve.spawn_validator("edge");
    edge.process.terminate();
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 1), "{receipt:?}");
}

#[tokio::test]
async fn fences_take_milliseconds_while_everybody_is_well() {
    const TIMES: usize = 200;
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let _validators = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2"), serve.spawn_validator("edge3")];
    let mut micros = Vec::new();
    for n in 0..TIMES {
        let name = format!("k{n}");
        admin.create_key("6666", &name).await.unwrap();
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 4));
        let elapsed = Duration::try_from(receipt.elapsed.unwrap()).unwrap();
        micros.push(elapsed.as_micros());
    }
    micros.sort_unstable();
    let at = |share: usize| micros[(TIMES * share / 100).min(TIMES - 1)];
    let (p50, p99, max) = (at(50), at(99), micros[TIMES - 1]);
    report::line(&format!(
        "figure: fence after commit, SQLite, 4 validators, {TIMES} deactivations: p50 {p50} µs, p99 {p99} µs, max {max} µs"
    ));
}
