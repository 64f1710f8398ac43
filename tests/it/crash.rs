//! kill -9.

use std::sync::{Arc, Mutex};

use keyward_proto::admin::key::State;
use keyward_proto::admin::{CreateKeyRequest, CreateKeyResponse};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, request_id};
use keyward_tests::keyward::Serve;
use keyward_tests::report;
use rustix::process::Signal;

const CALLS: usize = 200;
const CLIENTS: usize = 4;

/// The calls, each with a request id of its own.
fn requests() -> Vec<CreateKeyRequest> {
    let request = |n| CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: format!("k{n}"),
        key: None,
        request_id: request_id(),
    };
    (0..CALLS).map(request).collect()
}

/// Every acknowledged key validates after the restart; a key that was committed but not acknowledged is whole, as its
/// caller finds by asking again; and nothing else is there.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_creates_loses_nothing_and_leaves_nothing_half_made() {
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
                    // Once the process is gone every call fails.
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
    assert!(acknowledged.len() < CALLS, "the kill came too late to be in the middle");

    let serve = serve.restart(true);
    let admin = Admin::connect(serve.admin, &root).await;
    let asker = Asker::connect(serve.validator).await;
    for made in &acknowledged {
        assert_eq!(asker.verdict(&made.token).await, Verdict::Valid, "{made:?}");
    }
    let listed = admin.list("6666", 0).await.unwrap();
    let survivors = listed.len() - 1;
    report::line(&format!(
        "kill -9 among {CALLS} creates: {} acknowledged, {survivors} committed, all whole",
        acknowledged.len()
    ));
    assert!(survivors >= acknowledged.len() && survivors <= acknowledged.len() + CLIENTS);
    assert!(listed.iter().all(|key| key.state() == State::Active && key.masked_token.chars().count() == 8));
    // Whoever got no answer asks again, and gets the key that was made, or a new one: in the end each exists once.
    for request in requests {
        let made = admin.keys.clone().create_key(request).await.unwrap().into_inner();
        assert_eq!(asker.verdict(&made.token).await, Verdict::Valid);
    }
    assert_eq!(admin.list("6666", 0).await.unwrap().len(), CALLS + 1);
}
