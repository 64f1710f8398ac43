//! Validators as processes of their own, fed by an admin over TCP.

use std::time::{Duration, Instant};

use keyward_proto::admin::DeactivateKeyRequest;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, reason};
use keyward_tests::keyward::Serve;
use keyward_tests::web;
use rustix::process::Signal;
use tonic::Code;

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
    const TIMES: usize = 50;
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

#[tokio::test]
async fn a_validator_without_its_admin_stops_answering_and_goes_on_from_where_it_was() {
    let serve = Serve::start();
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let edge = serve.spawn_validator("edge");
    let asker = Asker::connect(edge.grpc).await;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);

    // The stream breaks.
    let mut serve = serve;
    serve.process.kill();
    until_unavailable(&asker, &token).await;
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
    let silence = until_unavailable(&asker, &token).await;
    serve.process.signal(Signal::CONT);
    // Two seconds of lease, less what was used up of it; the rest is this machine's noise.
    assert!(silence < Duration::from_secs(10), "{silence:?}");
    until_valid(&asker, &later).await;
    let log = serve.process.log();
    let joins = log.lines().filter(|line| line.contains("a validator joins") && !line.contains("in-process"));
    let joins: Vec<_> = joins.collect();
    // It had missed nothing while it was alone, so it took no snapshot again.
    assert!(!joins.is_empty() && joins.iter().all(|line| line.contains("\"snapshot\":false")), "{joins:?}");
}

#[tokio::test]
async fn a_deadline_that_is_too_short_says_committed_and_a_retry_waits_on() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let edge = serve.spawn_validator("edge");
    let asker = Asker::connect(edge.grpc).await;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    edge.process.signal(Signal::STOP);
    let mut request =
        tonic::Request::new(DeactivateKeyRequest { name: "projects/6666/keys/a".to_owned(), etag: String::new() });
    request.set_timeout(Duration::from_millis(600));
    let status = admin.keys.clone().deactivate_key(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "NOT_YET_ENFORCED"), "{status:?}");
    assert!(status.message().contains("committed at revision"), "{}", status.message());
    // The retry waits until the stopped validator can no longer answer from before.
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_lapsed), (EnforcedBy::WaitOut, 1), "{receipt:?}");
    edge.process.signal(Signal::CONT);
    loop {
        match asker.ask(&token).await {
            Ok(answer) => {
                assert_eq!(answer.verdict(), Verdict::Deactivated);
                break;
            }
            Err(status) => assert_eq!(reason(&status), "NO_LEASE"),
        }
    }
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
