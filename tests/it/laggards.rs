//! Validators that renew and do not apply changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keyward_proto::admin::Role;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::{Hello, Renew, SyncRequest, sync_request, sync_response};
use keyward_tests::client::{Admin, Transport, on_platform, reason, transport};
use keyward_tests::keyward::Serve;
use keyward_tests::{report, web};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

fn request(message: sync_request::Message) -> SyncRequest {
    SyncRequest { message: Some(message) }
}

/// Runs one session that takes its snapshot, and then renews ten times a lease of 2 s without applying anything. Returns how the
/// session ended.
async fn stay_behind(client: &mut ReplicaServiceClient<Transport>) -> Result<(), Status> {
    let (send, requests) = mpsc::channel(8);
    let hello = Hello { protocol: 1, validator_id: "laggard".to_owned(), ..Default::default() };
    send.send(request(sync_request::Message::Hello(hello))).await.unwrap();
    let mut session = client.sync(ReceiverStream::new(requests)).await?.into_inner();
    let applied = loop {
        let message = session.message().await?.and_then(|response| response.message);
        match message {
            Some(sync_response::Message::SnapshotChunk(chunk)) if chunk.last => break chunk.revision,
            Some(_) => {}
            None => return Ok(()),
        }
    };
    let renew = async {
        for seq in 1.. {
            let renew = Renew { seq, revision: applied };
            if send.send(request(sync_request::Message::Renew(renew))).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        while session.message().await?.is_some() {}
        Ok(())
    };
    tokio::select! {
        () = renew => Ok(()),
        ended = read => ended,
    }
}

/// Reconnects for ever, as fast as it may. Sends each refusal.
async fn stay_behind_for_ever(admin: SocketAddr, credential: String, refusals: mpsc::Sender<Status>) {
    let mut client = ReplicaServiceClient::new(transport(admin, Some(&credential)).await);
    loop {
        if let Err(status) = stay_behind(&mut client).await
            && refusals.send(status).await.is_err()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_validator_that_renews_and_never_acknowledges_does_not_hold_every_deactivation() {
    /// So many deactivations in a row that need not wait show that the validator does not hold all.
    const FREE: usize = 40;
    let serve = Serve::start_with(&["--lease", "2s"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let credential = root.create_member("laggard", &[on_platform(Role::Validator)]).await.unwrap();
    let (send, mut refusals) = mpsc::channel(1_000);
    let laggard = tokio::spawn(stay_behind_for_ever(serve.admin, credential, send));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let (mut waits, mut free, mut count) = (Vec::new(), 0, 0);
    while free < FREE {
        assert!(begun.elapsed() < Duration::from_secs(60), "after {count} deactivations, waits of {waits:?} ms");
        let name = format!("k{count}");
        root.create_key("6666", &name).await.unwrap();
        let receipt = root.deactivate("6666", &name).await.unwrap().receipt.unwrap();
        let waited = Duration::try_from(receipt.elapsed.unwrap()).unwrap();
        count += 1;
        if receipt.enforced_by() == EnforcedBy::Acks && waited < Duration::from_millis(500) {
            free += 1;
        } else {
            free = 0;
            waits.push(waited.as_millis());
        }
    }
    laggard.abort();
    let mut rests = 0;
    while let Ok(status) = refusals.try_recv() {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SYNC_PROTOCOL_VIOLATED"));
        if rests == 0 {
            assert!(status.message().ends_with("it may reconnect"), "no rest after the first time: {status:?}");
        }
        rests += 1;
    }
    assert!(rests > 1, "it stayed behind more than once");
    let metrics = web::get(serve.admin_ops, "/metrics", &[]).await.body;
    assert!(metrics.contains("keyward_admin_sessions_behind_total "), "{metrics}");
    report::line(&format!(
        "figure: a validator that never acknowledges and reconnects at once, D = 2 s: {} of {count} deactivations waited, \
         {waits:?} ms; the last {FREE} did not",
        waits.len()
    ));
}

#[tokio::test]
async fn a_validator_that_stayed_behind_once_gets_its_next_lease_before_the_last_one_ends() {
    let serve = Serve::start_with(&["--lease", "4s"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let credential = root.create_member("slow", &[on_platform(Role::Validator)]).await.unwrap();
    let mut client = ReplicaServiceClient::new(transport(serve.admin, Some(&credential)).await);
    let mut first = Sessions::default();
    let change = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        root.create_key("6666", "missed").await.unwrap();
    });
    let ended = first.run(&mut client, Duration::from_secs(30)).await.unwrap_err();
    assert!(ended.message().ends_with("it may reconnect"), "{ended:?}");
    change.await.unwrap();
    // It takes a snapshot, and so has applied the change.
    let mut second = Sessions::default();
    second.run(&mut client, Duration::from_secs(5)).await.unwrap();
    let (begins, ends) = (second.first_grant.unwrap(), first.lease_ends.unwrap());
    assert!(begins < ends, "the validator was without a lease for {:?}", begins.duration_since(ends));
}

/// What a validator that renews was granted.
#[derive(Default)]
struct Sessions {
    first_grant: Option<Instant>,
    lease_ends: Option<Instant>,
}

impl Sessions {
    /// Runs a session that takes its snapshot, and then renews without applying anything, for at most `time`.
    async fn run(&mut self, client: &mut ReplicaServiceClient<Transport>, time: Duration) -> Result<(), Status> {
        let (send, requests) = mpsc::channel(100);
        let hello = Hello { protocol: 1, validator_id: "slow".to_owned(), ..Default::default() };
        send.send(request(sync_request::Message::Hello(hello))).await.unwrap();
        let mut session = client.sync(ReceiverStream::new(requests)).await?.into_inner();
        let (begun, mut applied, mut seq) = (Instant::now(), None, 0);
        let mut renewals = tokio::time::interval(Duration::from_millis(400));
        let mut renewed = Instant::now();
        while begun.elapsed() < time {
            let message = tokio::select! {
                message = session.message() => message?,
                _ = renewals.tick() => {
                    if let Some(revision) = applied {
                        seq += 1;
                        renewed = Instant::now();
                        let _ = send.send(request(sync_request::Message::Renew(Renew { seq, revision }))).await;
                    }
                    continue;
                }
            };
            match message.and_then(|response| response.message) {
                Some(sync_response::Message::SnapshotChunk(chunk)) if chunk.last => applied = Some(chunk.revision),
                Some(sync_response::Message::Grant(grant)) if grant.seq == seq => {
                    let duration = Duration::try_from(grant.duration.unwrap()).unwrap();
                    self.first_grant.get_or_insert_with(Instant::now);
                    self.lease_ends = Some(renewed + duration);
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }
}
