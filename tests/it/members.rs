//! Roles and credentials that come and go, through the front door.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    GetMemberRequest, GrantRoleRequest, IssueCredentialRequest, IssueCredentialResponse, ListKeysRequest,
    ListKeysResponse, Receipt, RevokeCredentialRequest, RevokeRoleRequest, Role, RoleBinding, WhoAmIRequest,
};
use keyward_proto::replica::{Hello, SyncRequest, SyncResponse, sync_request};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, on_platform, on_project, reason, request_id, transport};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::Serve;
use keyward_tests::report::line as report;
use tonic::{Code, Status};

/// D' for a lease of 2 s: 2 s × 1.1 / 0.9 and 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// What this machine's noise may add.
const NOISE: Duration = Duration::from_secs(1);

async fn grant(admin: &Admin, member: &str, role: RoleBinding) -> Result<Receipt, Status> {
    let request = GrantRoleRequest { name: format!("members/{member}"), role: Some(role) };
    Ok(admin.members.clone().grant_role(request).await?.into_inner().receipt.unwrap())
}

async fn revoke(admin: &Admin, member: &str, role: RoleBinding) -> Result<Receipt, Status> {
    let request = RevokeRoleRequest { name: format!("members/{member}"), role: Some(role) };
    Ok(admin.members.clone().revoke_role(request).await?.into_inner().receipt.unwrap())
}

async fn issue(admin: &Admin, member: &str, request_id: &str) -> Result<IssueCredentialResponse, Status> {
    let request = IssueCredentialRequest { name: format!("members/{member}"), request_id: request_id.to_owned() };
    Ok(admin.members.clone().issue_credential(request).await?.into_inner())
}

async fn credentials_of(admin: &Admin, member: &str) -> Vec<String> {
    let request = GetMemberRequest { name: format!("members/{member}") };
    let member = admin.members.clone().get_member(request).await.unwrap().into_inner().member.unwrap();
    member.credentials.into_iter().map(|credential| credential.name).collect()
}

async fn revoke_credential(admin: &Admin, name: &str) -> Result<Receipt, Status> {
    let request = RevokeCredentialRequest { name: name.to_owned() };
    Ok(admin.members.clone().revoke_credential(request).await?.into_inner().receipt.unwrap())
}

/// Creates keys as fast as it can until it is refused, and returns the revisions of those that it got.
async fn create_until_refused(at: SocketAddr, credential: String, prefix: String) -> Vec<i64> {
    let member = Admin::connect(at, &credential).await;
    let mut revisions = Vec::new();
    for n in 0.. {
        match member.create_key("6666", &format!("{prefix}_{n}")).await {
            Ok(made) => revisions.push(made.receipt.unwrap().revision),
            Err(status) => {
                // Refused at the door (the project is hidden from it by then) or under the lock of the log.
                assert!(matches!(reason(&status).as_str(), "PERMISSION_DENIED" | "PROJECT_NOT_FOUND"), "{status:?}");
                return revisions;
            }
        }
    }
    revisions
}

/// A member loses its role while it creates keys at all these admins: none comes after.
async fn no_key_comes_after(root: &Admin, admins: &[SocketAddr], rounds: usize) -> usize {
    root.create_project("6666").await.unwrap();
    let editor = on_project(Role::Editor, "6666");
    let credential = root.create_member("loop", std::slice::from_ref(&editor)).await.unwrap();
    let mut created = 0;
    for round in 0..rounds {
        let loops: Vec<_> = (0..4)
            .map(|n| create_until_refused(admins[n % admins.len()], credential.clone(), format!("r{round}_{n}")))
            .map(tokio::spawn)
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let revoked = revoke(root, "loop", editor.clone()).await.unwrap().revision;
        for made in loops {
            let revisions = made.await.unwrap();
            assert!(revisions.iter().all(|revision| *revision < revoked), "{revisions:?} after {revoked}");
            created += revisions.len();
        }
        assert!(root.list("6666", 1_000).await.unwrap().iter().all(|key| key.revision < revoked));
        grant(root, "loop", editor.clone()).await.unwrap();
    }
    created
}

#[tokio::test]
async fn a_role_revoked_while_its_member_creates_keys_lets_none_through_at_a_later_revision() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let created = no_key_comes_after(&root, &[serve.admin], 20).await;
    assert!(created > 20, "only {created} keys were made at all");
    report(&format!("20 revocations among creates by 4 loops on SQLite: {created} keys before them, 0 after"));
}

#[tokio::test]
async fn a_role_revoked_at_one_admin_lets_no_key_through_at_another() {
    let cluster = Cluster::start(&["--lease", "1s"]);
    let admins = [cluster.admin("one"), cluster.admin("two")];
    let root = Admin::connect(admins[0].at, &cluster.root()).await;
    let created = no_key_comes_after(&root, &[admins[0].at, admins[1].at], 5).await;
    assert!(created > 5, "only {created} keys were made at all");
    report(&format!("5 revocations among creates by 4 loops at 2 admins: {created} keys before them, 0 after"));
}

#[tokio::test]
async fn credentials_rotate_without_a_gap() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let old = root.create_member("alice", &[]).await.unwrap();
    let id = request_id();
    let issued = issue(&root, "alice", &id).await.unwrap();
    assert_eq!(issued.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
    // A retry after a lost answer gives the same one.
    let again = issue(&root, "alice", &id).await.unwrap();
    assert_eq!((&again.credential, &again.credential_name), (&issued.credential, &issued.credential_name));
    let names = credentials_of(&root, "alice").await;
    assert_eq!((names.len(), &names[1]), (2, &issued.credential_name));
    for credential in [&old, &issued.credential] {
        let alice = Admin::connect(serve.admin, credential).await;
        alice.members.clone().who_am_i(WhoAmIRequest {}).await.unwrap();
    }

    let alice = Admin::connect(serve.admin, &old).await;
    let receipt = revoke_credential(&root, &names[0]).await.unwrap();
    assert_eq!(receipt.enforced_by(), EnforcedBy::Acks);
    let status = alice.members.clone().who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"));
    let alice = Admin::connect(serve.admin, &issued.credential).await;
    alice.members.clone().who_am_i(WhoAmIRequest {}).await.unwrap();
    // Again, as after a lost answer.
    revoke_credential(&root, &names[0]).await.unwrap();
    assert_eq!(credentials_of(&root, "alice").await, [issued.credential_name]);
}

#[tokio::test]
async fn whoever_would_lock_everybody_out_is_told_so() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let name = credentials_of(&root, "root").await.remove(0);
    for status in [
        revoke(&root, "root", on_platform(Role::Owner)).await.unwrap_err(),
        revoke_credential(&root, &name).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "LAST_OWNER"));
        assert!(status.message().contains("make another owner first"), "{status:?}");
    }
    let second = root.create_member("second", &[on_platform(Role::Owner)]).await.unwrap();
    revoke_credential(&root, &name).await.unwrap();
    let second = Admin::connect(serve.admin, &second).await;
    assert_eq!(credentials_of(&second, "root").await, [] as [&str; 0]);
}

/// Waits until the validator answers, takes its right away, and sees that it does not answer any more.
async fn silenced(
    asker: &Asker,
    token: &str,
    taken: impl Future<Output = Result<Receipt, Status>>,
    by: EnforcedBy,
) -> Duration {
    assert_eq!(asker.verdict(token).await, Verdict::Valid);
    let begun = Instant::now();
    let receipt = taken.await.unwrap();
    let took = begun.elapsed();
    let status = asker.ask(token).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
    assert_eq!(receipt.enforced_by(), by);
    assert!(took < WAIT_OUT + NOISE, "{took:?}");
    took
}

#[tokio::test]
async fn a_validator_whose_right_is_revoked_answers_no_more_once_the_call_returns() {
    let serve = Serve::start_with(&["--lease", "2s"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    let edges = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2"), serve.spawn_validator("edge3")];
    let mut askers = Vec::new();
    for edge in &edges {
        askers.push(Asker::connect(edge.grpc).await);
    }
    let by_role = revoke(&root, "edge1", on_platform(Role::Validator));
    let by_role = silenced(&askers[0], &token, by_role, EnforcedBy::WaitOut).await;
    let credential = credentials_of(&root, "edge2").await.remove(0);
    let by_credential = revoke_credential(&root, &credential);
    let by_credential = silenced(&askers[1], &token, by_credential, EnforcedBy::WaitOut).await;
    // Nobody else was touched, and the right that was given back is good again.
    assert_eq!(askers[2].verdict(&token).await, Verdict::Valid);
    grant(&root, "edge1", on_platform(Role::Validator)).await.unwrap();
    let begun = Instant::now();
    while askers[0].ask(&token).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report(&format!(
        "a validator's right revoked (D = 2 s): by role after {by_role:?}, by credential {by_credential:?}"
    ));
}

#[tokio::test]
async fn a_validator_of_another_admin_loses_its_right_too() {
    let cluster = Cluster::start(&["--lease", "2s"]);
    let admins = [cluster.admin("one"), cluster.admin("two")];
    let root = Admin::connect(admins[0].at, &cluster.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    let edge = cluster.validator("edge", &admins[0], &[admins[1].at]);
    let asker = Asker::connect(edge.grpc).await;
    silenced(&asker, &token, revoke(&root, "edge", on_platform(Role::Validator)), EnforcedBy::WaitOut).await;
}

/// A call whose head came before a revocation, and whose message comes after it: as somebody would prepare who knows that
/// a credential is about to be revoked.
async fn late<Q, R>(
    at: SocketAddr,
    credential: &str,
    path: &'static str,
    message: Q,
    meanwhile: impl Future,
) -> Result<R, Status>
where
    Q: prost::Message + Default + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let (send, held_back) = tokio::sync::mpsc::channel(1);
    let mut client = tonic::client::Grpc::new(transport(at, Some(credential)).await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    let stream = tokio_stream::wrappers::ReceiverStream::new(held_back);
    let path = path.parse().unwrap();
    let call = tokio::spawn(async move { client.client_streaming(tonic::Request::new(stream), path, codec).await });
    // Until the head is there for sure; a call that is later is refused at the door, which is as good.
    tokio::time::sleep(Duration::from_millis(200)).await;
    meanwhile.await;
    // The server may have refused it already.
    let _ = send.send(message).await;
    drop(send);
    call.await.unwrap().map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_call_under_way_does_nothing_by_what_was_revoked_before_its_message_came() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let thief = root.create_member("thief", &[on_platform(Role::Owner)]).await.unwrap();
    let name = credentials_of(&root, "thief").await.remove(0);
    let request = IssueCredentialRequest { name: "members/thief".to_owned(), request_id: String::new() };
    let path = "/keyward.admin.v1.MemberService/IssueCredential";
    let revoked = async { revoke_credential(&root, &name).await.unwrap() };
    let status = late::<_, IssueCredentialResponse>(serve.admin, &thief, path, request, revoked).await.unwrap_err();
    assert_eq!(reason(&status), "CREDENTIAL_INVALID");
    assert_eq!(credentials_of(&root, "thief").await, [] as [&str; 0]);

    let viewer = on_project(Role::Viewer, "6666");
    let credential = root.create_member("viewer", std::slice::from_ref(&viewer)).await.unwrap();
    let list = ListKeysRequest { parent: "projects/6666".to_owned(), ..Default::default() };
    let path = "/keyward.admin.v1.KeyService/ListKeys";
    let nothing = async {};
    let seen = late::<_, ListKeysResponse>(serve.admin, &credential, path, list.clone(), nothing).await.unwrap();
    assert_eq!(seen.keys.len(), 1, "a slow caller is no thief");
    let taken = async { revoke(&root, "viewer", viewer).await.unwrap() };
    let status = late::<_, ListKeysResponse>(serve.admin, &credential, path, list, taken).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_validator_that_says_hello_after_its_right_was_revoked_gets_no_session() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let credential = root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap();
    let hello = Hello { protocol: 1, validator_id: "edge".to_owned(), ..Default::default() };
    let hello = SyncRequest { message: Some(sync_request::Message::Hello(hello)) };
    let taken = async { revoke(&root, "edge", on_platform(Role::Validator)).await.unwrap() };
    let path = "/keyward.replica.v1.ReplicaService/Sync";
    let status = late::<_, SyncResponse>(serve.admin, &credential, path, hello, taken).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}
