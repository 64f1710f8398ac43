//! Grants and revocations of roles and credentials, through the admin API.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    GetMemberRequest, GrantRoleRequest, IssueCredentialRequest, IssueCredentialResponse, ListKeysRequest,
    ListKeysResponse, Receipt, RevokeCredentialRequest, RevokeRoleRequest, Role, RoleBinding, WhoAmIRequest,
};
use keyward_proto::replica::{Hello, SyncRequest, SyncResponse, sync_request};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, on_platform, on_project, reason, request_id, transport};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::Serve;
use keyward_tests::report::line as report;
use tonic::{Code, Status};

/// The wait-out time D' for a lease of 2 s: 2 s × 1.1 / 0.9 + 50 ms.
const WAIT_OUT: Duration = Duration::from_millis(2_495);

/// Tolerance for the delays of a busy machine.
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

/// Creates keys in a loop until a call is refused. Returns the revisions of the created keys.
async fn create_until_refused(at: SocketAddr, credential: String, prefix: String) -> Vec<i64> {
    let member = Admin::connect(at, &credential).await;
    let mut revisions = Vec::new();
    for n in 0.. {
        match member.create_key("6666", &format!("{prefix}_{n}")).await {
            Ok(made) => revisions.push(made.receipt.unwrap().revision),
            Err(status) => {
                // Refused by the authorization check (which hides the project by then) or by the check under the lock
                // of the log.
                assert!(matches!(reason(&status).as_str(), "PERMISSION_DENIED" | "PROJECT_NOT_FOUND"), "{status:?}");
                return revisions;
            }
        }
    }
    revisions
}

/// Revokes a member's role while the member creates keys at all these admins. No key may have a later revision than the
/// revocation. Returns how many keys were created.
async fn revoke_during_creates(root: &Admin, admins: &[SocketAddr], rounds: usize) -> usize {
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
async fn no_key_is_created_at_a_later_revision_than_the_revocation_of_its_creators_role() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let created = revoke_during_creates(&root, &[serve.admin], 20).await;
    assert!(created > 20, "only {created} keys were created");
    report(&format!("20 revocations among creates by 4 loops on SQLite: {created} keys before them, 0 after"));
}

#[tokio::test]
async fn a_role_revoked_at_one_admin_is_enforced_at_another() {
    let cluster = Cluster::start(&["--lease", "1s"]);
    let admins = [cluster.admin("one"), cluster.admin("two")];
    let root = Admin::connect(admins[0].at, &cluster.root()).await;
    let created = revoke_during_creates(&root, &[admins[0].at, admins[1].at], 5).await;
    assert!(created > 5, "only {created} keys were created");
    report(&format!("5 revocations among creates by 4 loops at 2 admins: {created} keys before them, 0 after"));
}

#[tokio::test]
async fn a_credential_can_be_rotated_without_downtime() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let old = root.create_member("alice", &[]).await.unwrap();
    let id = request_id();
    let issued = issue(&root, "alice", &id).await.unwrap();
    assert_eq!(issued.receipt.unwrap().enforced_by(), EnforcedBy::Acks);
    // A retry after a lost response returns the same credential.
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
    // A retry after a lost response.
    revoke_credential(&root, &names[0]).await.unwrap();
    assert_eq!(credentials_of(&root, "alice").await, [issued.credential_name]);
}

#[tokio::test]
async fn revoking_the_last_owner_is_refused() {
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

/// Checks that the validator answers, revokes its right with `revocation`, and checks that it no longer answers. Returns how
/// long the revocation took.
async fn revoke_validator(
    client: &ValidatorClient,
    token: &str,
    revocation: impl Future<Output = Result<Receipt, Status>>,
    by: EnforcedBy,
) -> Duration {
    assert_eq!(client.verdict(token).await, Verdict::Valid);
    let begun = Instant::now();
    let receipt = revocation.await.unwrap();
    let took = begun.elapsed();
    let status = client.validate(token).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
    assert_eq!(receipt.enforced_by(), by);
    assert!(took < WAIT_OUT + NOISE, "{took:?}");
    took
}

#[tokio::test]
async fn a_validator_stops_answering_before_the_revocation_of_its_right_returns() {
    let serve = Serve::start_with(&["--lease", "2s"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    let edges = [serve.spawn_validator("edge1"), serve.spawn_validator("edge2"), serve.spawn_validator("edge3")];
    let mut clients = Vec::new();
    for edge in &edges {
        clients.push(ValidatorClient::connect(edge.grpc).await);
    }
    let by_role = revoke(&root, "edge1", on_platform(Role::Validator));
    let by_role = revoke_validator(&clients[0], &token, by_role, EnforcedBy::WaitOut).await;
    let credential = credentials_of(&root, "edge2").await.remove(0);
    let by_credential = revoke_credential(&root, &credential);
    let by_credential = revoke_validator(&clients[1], &token, by_credential, EnforcedBy::WaitOut).await;
    // The other validator is unaffected, and a right that is granted again works again.
    assert_eq!(clients[2].verdict(&token).await, Verdict::Valid);
    grant(&root, "edge1", on_platform(Role::Validator)).await.unwrap();
    let begun = Instant::now();
    while clients[0].validate(&token).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the validator did not recover");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report(&format!(
        "a validator's right revoked (D = 2 s): by role after {by_role:?}, by credential {by_credential:?}"
    ));
}

#[tokio::test]
async fn a_revocation_also_stops_a_validator_that_follows_another_admin() {
    let cluster = Cluster::start(&["--lease", "2s"]);
    let admins = [cluster.admin("one"), cluster.admin("two")];
    let root = Admin::connect(admins[0].at, &cluster.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    let edge = cluster.validator("edge", &admins[0], &[admins[1].at]);
    let client = ValidatorClient::connect(edge.grpc).await;
    revoke_validator(&client, &token, revoke(&root, "edge", on_platform(Role::Validator)), EnforcedBy::WaitOut).await;
}

/// Makes a call whose head arrives before `meanwhile` and whose message arrives after it. An attacker who expects a
/// revocation could prepare such calls.
async fn call_with_delayed_message<Q, R>(
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
    // The head should have arrived by then. A head that arrives later is refused, which also passes the test.
    tokio::time::sleep(Duration::from_millis(200)).await;
    meanwhile.await;
    // The server may have refused the call already.
    let _ = send.send(message).await;
    drop(send);
    call.await.unwrap().map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_call_in_flight_is_refused_if_its_right_is_revoked_before_its_message_arrives() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let attacker = root.create_member("attacker", &[on_platform(Role::Owner)]).await.unwrap();
    let name = credentials_of(&root, "attacker").await.remove(0);
    let request = IssueCredentialRequest { name: "members/attacker".to_owned(), request_id: String::new() };
    let path = "/keyward.admin.v1.MemberService/IssueCredential";
    let revoked = async { revoke_credential(&root, &name).await.unwrap() };
    let status =
        call_with_delayed_message::<_, IssueCredentialResponse>(serve.admin, &attacker, path, request, revoked)
            .await
            .unwrap_err();
    assert_eq!(reason(&status), "CREDENTIAL_INVALID");
    assert_eq!(credentials_of(&root, "attacker").await, [] as [&str; 0]);

    let viewer = on_project(Role::Viewer, "6666");
    let credential = root.create_member("viewer", std::slice::from_ref(&viewer)).await.unwrap();
    let list = ListKeysRequest { parent: "projects/6666".to_owned(), ..Default::default() };
    let path = "/keyward.admin.v1.KeyService/ListKeys";
    let nothing = async {};
    let seen = call_with_delayed_message::<_, ListKeysResponse>(serve.admin, &credential, path, list.clone(), nothing)
        .await
        .unwrap();
    assert_eq!(seen.keys.len(), 1, "a call with a delayed message succeeds without a revocation");
    let revocation = async { revoke(&root, "viewer", viewer).await.unwrap() };
    let status = call_with_delayed_message::<_, ListKeysResponse>(serve.admin, &credential, path, list, revocation)
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_sync_stream_gets_no_session_if_its_right_is_revoked_before_its_hello() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let credential = root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap();
    let hello = Hello { protocol: 1, validator_id: "edge".to_owned(), ..Default::default() };
    let hello = SyncRequest { message: Some(sync_request::Message::Hello(hello)) };
    let revocation = async { revoke(&root, "edge", on_platform(Role::Validator)).await.unwrap() };
    let path = "/keyward.replica.v1.ReplicaService/Sync";
    let status = call_with_delayed_message::<_, SyncResponse>(serve.admin, &credential, path, hello, revocation)
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}
