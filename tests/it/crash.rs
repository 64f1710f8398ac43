//! Recovery of `keyward serve` from SIGKILL.

use std::sync::{Arc, Mutex};

use keyward_proto::admin::key::State;
use keyward_proto::admin::{CreateKeyRequest, CreateKeyResponse};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, request_id};
use keyward_tests::keyward::Serve;
use keyward_tests::report;
use rustix::process::Signal;

const CALLS: usize = 200;
const CLIENTS: usize = 4;

/// Returns the calls, each with its own request id.
fn requests() -> Vec<CreateKeyRequest> {
    let request = |n| CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: format!("k{n}"),
        key: None,
        request_id: request_id(),
    };
    (0..CALLS).map(request).collect()
}

/// After the restart, every acknowledged key validates. A key that was committed but not acknowledged is complete: a
/// retry with the same request id returns it. There are no other keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_during_creates_loses_no_acknowledged_key_and_leaves_no_partial_one() {
    let serve = Serve::start();
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    admin.create_project("6666").await.unwrap();
    let requests = requests();
    let acknowledged: Arc<Mutex<Vec<CreateKeyResponse>>> = Arc::default();
    let clients: Vec<_> = requests
        .chunks(CALLS / CLIENTS)
        .map(|share| {
            let (share, admin, acknowledged) = (share.to_vec(), admin.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for request in share {
                    // Once the process is gone, every call fails.
                    let Ok(made) = admin.keys.clone().create_key(request).await else { return };
                    acknowledged.lock().unwrap().push(made.into_inner());
                }
            })
        })
        .collect();
    while acknowledged.lock().unwrap().len() < CALLS / 3 {
        tokio::task::yield_now().await;
    }
    serve.process.signal(Signal::KILL);
    for client in clients {
        client.await.unwrap();
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert!(acknowledged.len() < CALLS, "the kill came after the last create");

    let serve = serve.restart(true);
    let admin = Admin::connect(serve.admin, &root).await;
    let client = ValidatorClient::connect(serve.validator).await;
    for made in &acknowledged {
        assert_eq!(client.verdict(&made.token).await, Verdict::Valid, "{made:?}");
    }
    let listed = admin.list("6666", 0).await.unwrap();
    let survivors = listed.len() - 1;
    report::line(&format!(
        "kill -9 among {CALLS} creates: {} acknowledged, {survivors} committed, all whole",
        acknowledged.len()
    ));
    assert!(survivors >= acknowledged.len() && survivors <= acknowledged.len() + CLIENTS);
    assert!(listed.iter().all(|key| key.state() == State::Active && key.masked_token.chars().count() == 8));
    // A retry of every request returns the key that was made, or makes it: in the end each exists once.
    for request in requests {
        let made = admin.keys.clone().create_key(request).await.unwrap().into_inner();
        assert_eq!(client.verdict(&made.token).await, Verdict::Valid);
    }
    assert_eq!(admin.list("6666", 0).await.unwrap().len(), CALLS + 1);
}
