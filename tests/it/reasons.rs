//! Every error reason of the contract, provoked once.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{Kind, Reason};
use keyward_proto::admin::*;
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::{Hello, SyncRequest, sync_request};
use keyward_proto::validate::ValidateTokenRequest;
use keyward_proto::validate::validate_token_request::Consistency;
use keyward_tests::client::{Admin, ValidatorClient, on_platform, on_project, reason, request_id, transport};
use keyward_tests::keyward::{Serve, write_keyring_without_sealing};
use rustix::process::Signal;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;
use tonic::{Code, Request, Status};

/// The reasons seen so far, with their codes.
#[derive(Default)]
struct Seen(BTreeMap<String, Code>);

impl Seen {
    #[track_caller]
    fn add<T: std::fmt::Debug>(&mut self, expected: &str, refused: Result<T, Status>) {
        let status = refused.expect_err("this must be refused");
        assert_eq!(reason(&status), expected, "{status:?}");
        self.0.insert(expected.to_owned(), status.code());
    }
}

const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

fn key(name: &str) -> String {
    format!("projects/6666/keys/{name}")
}

#[tokio::test]
async fn every_reason_of_the_contract_is_returned_with_its_code() {
    let mut seen = Seen::default();
    let serve = Serve::start_with(&["--lease", "2s"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let token = root.create_project("6666").await.unwrap().default_token;
    about_callers(&serve, &root, &token, &mut seen).await;
    about_keys(&root, &mut seen).await;
    about_members(&root, &mut seen).await;
    about_tokens(&mut seen).await;
    seen.add::<()>("OVERLOADED", Err(crate::overload::overload(serve.validator).await));
    about_validators(&serve, &root, &token, &mut seen).await;
    let validator = root.create_member("newer", &[on_platform(Role::Validator)]).await.unwrap();
    about_the_replica_protocol(&serve, &validator, &mut seen).await;
    about_the_database(&serve, &root, &mut seen).await;
    about_shutting_down(serve, &validator, &mut seen).await;
    let expected: BTreeMap<_, _> =
        Reason::ALL.iter().map(|reason| (reason.as_str().to_owned(), code(reason.kind()))).collect();
    assert_eq!(seen.0, expected);
}

async fn about_callers(serve: &Serve, root: &Admin, token: &str, seen: &mut Seen) {
    seen.add("CREDENTIAL_MISSING", Admin::connect(serve.admin, "").await.list("6666", 0).await);
    seen.add("CREDENTIAL_INVALID", Admin::connect(serve.admin, token).await.list("6666", 0).await);
    let viewer = root.create_member("viewer", &[on_project(Role::Viewer, "6666")]).await.unwrap();
    let viewer = Admin::connect(serve.admin, &viewer).await;
    seen.add("PERMISSION_DENIED", viewer.create_key("6666", "x").await);
    seen.add("PROJECT_NOT_FOUND", viewer.list("7777", 0).await);
}

async fn about_keys(root: &Admin, seen: &mut Seen) {
    seen.add("PROJECT_ID_TAKEN", root.create_project("6666").await);
    seen.add("FIELD_INVALID", root.create_key("6666", "a-b").await);
    seen.add("KEY_NAME_RESERVED", root.create_key("6666", "6666_default_000000").await);
    let create = |key_id: &str, id: &str| CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: key_id.to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let id = request_id();
    root.keys.clone().create_key(create("a", &id)).await.unwrap();
    seen.add("REQUEST_ID_REUSED", root.keys.clone().create_key(create("b", &id)).await);
    seen.add("KEY_NAME_TAKEN", root.create_key("6666", "a").await);
    let parent = "projects/6666".to_owned();
    let list = ListKeysRequest { parent, page_token: "AAAA".to_owned(), ..Default::default() };
    seen.add("PAGE_TOKEN_INVALID", root.keys.clone().list_keys(list).await);
    seen.add("KEY_NOT_FOUND", root.deactivate("6666", "nonesuch").await);
    let default_key = root.list("6666", 1).await.unwrap().remove(0).name;
    seen.add("DEFAULT_KEY_PROTECTED", root.deactivate("6666", default_key.rsplit('/').next().unwrap()).await);
    let stale = DeactivateKeyRequest { name: key("a"), etag: "stale".to_owned() };
    seen.add("REQUEST_UNREADABLE", root.create_project(&"x".repeat(2 << 20)).await);
    seen.add("ETAG_MISMATCH", root.keys.clone().deactivate_key(stale).await);
    let epoch = AcceptEpochRequest { epoch: request_id() };
    seen.add("EPOCH_MISMATCH", root.audit.clone().accept_epoch(epoch).await);
    let rotate =
        |name: &str, to: &str| RotateKeyRequest { name: key(name), new_key_id: to.to_owned(), ..Default::default() };
    root.keys.clone().rotate_key(rotate("a", "a_2")).await.unwrap();
    seen.add("KEY_REPLACED", root.keys.clone().rotate_key(rotate("a", "a_3")).await);
    root.deactivate("6666", "a_2").await.unwrap();
    seen.add("KEY_DEACTIVATED", root.keys.clone().rotate_key(rotate("a_2", "a_3")).await);
}

async fn about_members(root: &Admin, seen: &mut Seen) {
    seen.add("MEMBER_ID_TAKEN", root.create_member("viewer", &[]).await);
    let get = |name: &str| GetMemberRequest { name: format!("members/{name}") };
    seen.add("MEMBER_NOT_FOUND", root.members.clone().get_member(get("nobody")).await);
    let name = "members/viewer/credentials/0000000000000000".to_owned();
    seen.add("CREDENTIAL_NOT_FOUND", root.members.clone().revoke_credential(RevokeCredentialRequest { name }).await);
    let own = root.members.clone().get_member(get("root")).await.unwrap().into_inner().member.unwrap();
    let name = own.credentials[0].name.clone();
    seen.add("LAST_OWNER", root.members.clone().revoke_credential(RevokeCredentialRequest { name }).await);
    let roles: Vec<_> = (0..100).map(|n| on_project(Role::Viewer, &n.to_string())).collect();
    root.create_member("busy", &roles).await.unwrap();
    let grant = GrantRoleRequest { name: "members/busy".to_owned(), role: Some(on_platform(Role::Support)) };
    seen.add("MEMBER_LIMIT_REACHED", root.members.clone().grant_role(grant).await);
}

/// Runs a `serve` without a sealing key, and looks up a token of another deployment.
async fn about_tokens(seen: &mut Seen) {
    let serve = Serve::start_on(write_keyring_without_sealing);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    root.create_key("6666", "a").await.unwrap();
    seen.add("REVEAL_DISABLED", root.keys.clone().reveal_token(RevealTokenRequest { name: key("a") }).await);
    let support = root.create_member("support", &[on_platform(Role::Support)]).await.unwrap();
    let support = Admin::connect(serve.admin, &support).await;
    let unknown = keyward_token::Token::generate(&Default::default(), keyward_token::TokenKind::Server).unwrap();
    let lookup = LookupKeyRequest { token: unknown.expose().to_owned() };
    seen.add("TOKEN_UNKNOWN", support.keys.clone().lookup_key(lookup).await);
}

async fn about_validators(serve: &Serve, root: &Admin, token: &str, seen: &mut Seen) {
    let client = ValidatorClient::connect(serve.validator).await;
    let future = ValidateTokenRequest {
        token: token.to_owned(),
        consistency: Consistency::AtLeast.into(),
        min_revision: 1_000_000,
        ..Default::default()
    };
    seen.add("REVISION_NOT_REACHED", client.validate_request(future).await);
    let edge = serve.spawn_validator("edge");
    let at_edge = ValidatorClient::connect(edge.grpc).await;
    edge.process.signal(Signal::STOP);
    let mut request = Request::new(DeactivateKeyRequest { name: key("a"), etag: String::new() });
    request.set_timeout(Duration::from_millis(500));
    seen.add("NOT_YET_ENFORCED", root.keys.clone().deactivate_key(request).await);
    // The validator's lease has ended once the deactivation is enforced.
    root.deactivate("6666", "a").await.unwrap();
    let revoke = RevokeRoleRequest { name: "members/edge".to_owned(), role: Some(on_platform(Role::Validator)) };
    root.members.clone().revoke_role(revoke).await.unwrap();
    edge.process.signal(Signal::CONT);
    seen.add("NO_LEASE", at_edge.validate(token).await);
}

/// A validator of another version.
async fn about_the_replica_protocol(serve: &Serve, validator: &str, seen: &mut Seen) {
    let mut client = ReplicaServiceClient::new(transport(serve.admin, Some(validator)).await);
    let message = Hello { protocol: 1_000, validator_id: "newer".to_owned(), ..Default::default() };
    let hello = SyncRequest { message: Some(sync_request::Message::Hello(message)) };
    let call = client.sync(tokio_stream::once(hello)).await;
    seen.add("SYNC_PROTOCOL_VIOLATED", call.map(drop));
}

/// Writes to the database from outside Keyward.
async fn about_the_database(serve: &Serve, root: &Admin, seen: &mut Seen) {
    let url = format!("sqlite:{}", serve.data_dir().join("keyward.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    // As an admin records it after a fork of the history.
    root.create_key("6666", "withheld").await.unwrap();
    let withhold = "INSERT INTO withheld_token (digest, key_uid, refused_from) SELECT digest, key_uid, 0 FROM key_token \
                    WHERE key_uid = (SELECT uid FROM api_key WHERE key_id = 'withheld')";
    sqlx::query(withhold).execute(&mut database).await.unwrap();
    let activate = ActivateKeyRequest { name: key("withheld"), etag: String::new() };
    seen.add("KEY_WITHHELD", root.keys.clone().activate_key(activate).await);
    sqlx::query("UPDATE api_key SET state = 'weird' WHERE key_id = 'a'").execute(&mut database).await.unwrap();
    seen.add("INTERNAL", root.keys.clone().get_key(GetKeyRequest { name: key("a") }).await);
    sqlx::query("ALTER TABLE api_key RENAME TO gone").execute(&mut database).await.unwrap();
    seen.add("STORE_REFUSED", root.keys.clone().get_key(GetKeyRequest { name: key("a") }).await);
    sqlx::query("ALTER TABLE gone RENAME TO api_key").execute(&mut database).await.unwrap();
    // Keyward waits for the database's lock only for a limited time.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut database).await.unwrap();
    seen.add("STORE_UNAVAILABLE", root.create_key("6666", "locked_out").await);
    sqlx::query("ROLLBACK").execute(&mut database).await.unwrap();
}

/// A validator whose `Hello` arrives while the admin shuts down.
async fn about_shutting_down(serve: Serve, validator: &str, seen: &mut Seen) {
    let (send_hello, hello) = oneshot::channel();
    let mut client = ReplicaServiceClient::new(transport(serve.admin, Some(validator)).await);
    let stream = tokio_stream::once(hello);
    let stream = tokio_stream::StreamExt::then(stream, |hello| async move { hello.await.unwrap() });
    let call = tokio::spawn(async move { client.sync(stream).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut process = serve.process;
    process.signal(Signal::TERM);
    process.wait_for("leaving", |process| process.log().contains("shutting down").then_some(()));
    let message = Hello { protocol: 1, validator_id: "late".to_owned(), ..Default::default() };
    let _ = send_hello.send(SyncRequest { message: Some(sync_request::Message::Hello(message)) });
    seen.add("SHUTTING_DOWN", call.await.unwrap());
}
