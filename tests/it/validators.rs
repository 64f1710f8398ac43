//! Validators in their own processes, which follow an admin over TCP.

use std::time::{Duration, Instant};

use keyward_proto::admin::key::Enforcement;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{DeactivateKeyRequest, GetKeyRequest, WaitEnforcedRequest};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, reason, violation};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, size, web};
use rustix::process::Signal;
use tonic::Code;

/// A lease short enough for a test to wait for its end.
const LEASE: [&str; 2] = ["--lease", "2s"];

/// The wait-out time D' for this lease: 2 s × 1.1 / 0.9 + 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// Tolerance for the delays of a busy machine.
const NOISE: Duration = Duration::from_secs(1);

/// Validates in a loop until the validator is unavailable, which must be for lack of a lease. Returns how long that
/// took.
async fn until_unavailable(client: &ValidatorClient, token: &str) -> Duration {
    let begun = Instant::now();
    loop {
        if let Err(status) = client.validate(token).await {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the validator still answers without an admin");
    }
}

async fn until_valid(client: &ValidatorClient, token: &str) {
    let begun = Instant::now();
    while !client.validate(token).await.is_ok_and(|answer| answer.verdict() == Verdict::Valid) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the validator did not recover");
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
    let mut clients = vec![ValidatorClient::connect(serve.validator).await];
    for validator in &validators {
        clients.push(ValidatorClient::connect(validator.grpc).await);
    }
    for n in 0..TIMES {
        let name = format!("k{n}");
        let made = admin.create_key("6666", &name).await.unwrap();
        assert_eq!(made.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Valid, "a new key works at once, everywhere");
        }
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        assert_eq!(
            (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed),
            (EnforcedBy::Acks, 3, 0)
        );
        for client in &clients {
            assert_eq!(client.verdict(&made.token).await, Verdict::Deactivated);
        }
    }
}

/// A lost or silent connection does not shorten the lease, and nothing prolongs it.
#[tokio::test]
async fn a_validator_without_an_admin_answers_until_its_lease_ends_and_resumes_without_a_snapshot() {
    let serve = Serve::start_with(&LEASE);
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(edge.grpc).await;
    assert_eq!(client.verdict(&token).await, Verdict::Valid);

    // The stream breaks.
    let mut serve = serve;
    serve.process.kill();
    let available = until_unavailable(&client, &token).await;
    assert!(available > Duration::from_secs(1) && available < Duration::from_secs(2) + NOISE, "{available:?}");
    assert_eq!(web::get(edge.hook, "/auth", &[("x-api-key", &token)]).await.status, 503);
    assert_eq!(web::get(edge.ops, "/readyz", &[]).await.status, 503);
    assert_eq!(web::get(edge.ops, "/livez", &[]).await.status, 200);
    let serve = serve.restart(true);
    until_valid(&client, &token).await;

    // The admin is suspended: the connection stays open, but nothing arrives.
    let admin = Admin::connect(serve.admin, &root).await;
    let later = admin.create_key("6666", "later").await.unwrap().token;
    assert_eq!(client.verdict(&later).await, Verdict::Valid);
    serve.process.signal(Signal::STOP);
    let available = until_unavailable(&client, &token).await;
    serve.process.signal(Signal::CONT);
    assert!(available > Duration::from_secs(1) && available < Duration::from_secs(2) + NOISE, "{available:?}");
    until_valid(&client, &later).await;
    let log = serve.process.log();
    let joins = log.lines().filter(|line| line.contains("a validator joins") && !line.contains("in-process"));
    let joins: Vec<_> = joins.collect();
    // Nothing changed while the validator was disconnected, so it needs no new snapshot.
    assert!(!joins.is_empty() && joins.iter().all(|line| line.contains("\"snapshot\":false")), "{joins:?}");
}

#[tokio::test]
async fn a_deadline_before_enforcement_reports_the_commit_and_a_retry_waits_for_enforcement() {
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(edge.grpc).await;
    assert_eq!(client.verdict(&token).await, Verdict::Valid);
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
    assert_eq!(key.enforcement(), Enforcement::Pending, "a key must not be shown as ENFORCED before it is");

    // Both retries wait until the lease of the suspended validator has ended.
    let mut keys = admin.keys.clone();
    let wait = keys.wait_enforced(WaitEnforcedRequest { revision: key.revision });
    let (waited, again) = tokio::join!(wait, admin.deactivate("6666", "a"));
    for receipt in [waited.unwrap().into_inner().receipt.unwrap(), again.unwrap().receipt.unwrap()] {
        assert_eq!(receipt.revision, key.revision);
        assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    }
    assert_eq!(get().await.enforcement(), Enforcement::Enforced);
    edge.process.signal(Signal::CONT);
    must_refuse_once_available(&client, &token).await;
    for revision in [0, -1, key.revision + 1] {
        let status = admin.keys.clone().wait_enforced(WaitEnforcedRequest { revision }).await.unwrap_err();
        assert_eq!(violation(&status).0, "revision");
    }
}

/// Validates in a loop until the validator answers. Before that it must have no lease, and its answer must be a
/// refusal.
async fn must_refuse_once_available(client: &ValidatorClient, token: &str) {
    loop {
        match client.validate(token).await {
            Ok(answer) => return assert_eq!(answer.verdict(), Verdict::Deactivated),
            Err(status) => assert_eq!(reason(&status), "NO_LEASE"),
        }
    }
}

/// Validators are suspended at various moments and resumed. The first request to a resumed validator is sent after
/// Deactivate has returned.
#[tokio::test]
async fn a_suspended_validator_delays_a_deactivation_by_one_lease_at_most_and_accepts_no_deactivated_key() {
    const TIMES: u32 = size::STOPPED_VALIDATORS;
    let serve = Serve::start_with(&LEASE);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let validators = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2")];
    let clients =
        [ValidatorClient::connect(validators[0].grpc).await, ValidatorClient::connect(validators[1].grpc).await];
    let mut longest = Duration::ZERO;
    for n in 0..TIMES {
        let name = format!("k{n}");
        let token = admin.create_key("6666", &name).await.unwrap().token;
        for client in &clients {
            until_valid(client, &token).await;
        }
        let stopped = &validators[n as usize % 2];
        // Each suspension comes at another moment of the renewal interval.
        tokio::time::sleep(Duration::from_millis(u64::from(n) * 37)).await;
        stopped.process.signal(Signal::STOP);
        let begun = Instant::now();
        let receipt = admin.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        longest = longest.max(begun.elapsed());
        stopped.process.signal(Signal::CONT);
        for client in &clients {
            must_refuse_once_available(client, &token).await;
        }
        assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    }
    report::line(&format!("figure: deactivations with a stopped validator, D = 2 s: longest of {TIMES}: {longest:?}"));
    assert!(longest < WAIT_OUT + NOISE, "{longest:?}");
}

/// A restarted admin has no sessions, but the leases that it granted before the restart are still in use.
#[tokio::test]
async fn a_restarted_admin_waits_for_leases_granted_before_the_restart() {
    let serve = Serve::start_with(&LEASE);
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(edge.grpc).await;
    assert_eq!(client.verdict(&token).await, Verdict::Valid);
    // The suspended validator keeps its lease of the admin's former life, and cannot connect to the new one.
    edge.process.signal(Signal::STOP);
    let serve = serve.restart(true);
    let admin = Admin::connect(serve.admin, &root).await;
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    edge.process.signal(Signal::CONT);
    must_refuse_once_available(&client, &token).await;
    assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    // Later deactivations are fast again.
    until_valid(&client, &admin.create_key("6666", "b").await.unwrap().token).await;
    let receipt = admin.deactivate("6666", "b").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
}

#[tokio::test]
async fn a_graceful_shutdown_of_a_validator_delays_no_deactivation() {
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
async fn a_fence_takes_milliseconds_without_faults() {
    const TIMES: usize = size::DEACTIVATIONS;
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
