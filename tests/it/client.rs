//! The client crate: a Rust service that validates keys by call, by stream, or with an embedded replica.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Extension, Router};
use keyward_client::{Admins, ApiKey, Client, Expectation, KeywardLayer, Unavailable, Validators, Verdict};
use keyward_proto::admin::Key;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_tests::client::{Admin, on_platform};
use keyward_tests::keyward::{Serve, Validator};
use keyward_tests::proxy::{Network, Proxy};
use keyward_tests::{report, size, web};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const KEY: &str = "x-api-key";

/// A limit well above the delays of a busy machine, for tests that do not measure time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service behind the tower layer; ends when dropped.
pub(super) struct Service {
    pub(super) at: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    pub(super) async fn start(client: &Client) -> Self {
        let any = KeywardLayer::for_any_project(client.clone());
        let of_6666 = KeywardLayer::for_project(client.clone(), "6666").unwrap();
        let app = Router::new()
            .route("/", get(echo).layer(any.clone()))
            .route("/only-6666", get(echo).layer(of_6666))
            .route("/app", get(echo).layer(any.allow_client_keys()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        Self { at, task: tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }) }
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        web::get(self.at, path, &[(KEY, token)]).await.status
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Responds with the validated key and the names of the other headers that arrived.
async fn echo(Extension(key): Extension<ApiKey>, headers: HeaderMap) -> String {
    let names: Vec<_> = headers.keys().map(ToString::to_string).collect();
    let body =
        json!({ "project": key.project(), "key": key.key(), "platform": key.platform().as_str(), "headers": names });
    body.to_string()
}

fn by_call(at: &[SocketAddr]) -> Client {
    Client::by_call(&validators(at)).unwrap()
}

fn by_stream(at: &[SocketAddr]) -> Client {
    Client::by_stream(&validators(at)).unwrap()
}

fn validators(at: &[SocketAddr]) -> Validators {
    Validators::at(at.iter().map(|at| format!("http://{at}"))).timeout(PATIENCE)
}

/// Returns a client with an embedded replica that holds a lease.
pub(super) async fn embedded(serve: &Serve, admin: &Admin) -> Client {
    embedded_at(serve.admin, admin).await
}

async fn embedded_at(at: SocketAddr, admin: &Admin) -> Client {
    let roles = [on_platform(keyward_proto::admin::Role::Validator)];
    let credential = admin.create_member("my_service", &roles).await.unwrap();
    let client = Client::embedded(&Admins::at([format!("http://{at}")], &credential)).unwrap();
    tokio::time::timeout(PATIENCE, client.ready()).await.unwrap();
    client
}

#[tokio::test]
async fn an_invalid_project_name_is_refused_and_never_means_any_project() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    for client in [by_call(&[serve.validator]), by_stream(&[serve.validator]), embedded(&serve, &admin).await] {
        for project in ["", "projects/6666", "66-66"] {
            let expectation = Expectation { project: Some(project), ..Expectation::default() };
            assert_eq!(client.validate(&token, &expectation).await, Err(Unavailable::NoVerdict(3)), "{project:?}");
        }
        let expectation = Expectation { project: Some("6666"), ..Expectation::default() };
        assert_eq!(client.validate(&token, &expectation).await.unwrap().verdict, Verdict::Valid);
    }
}

/// Deactivate waits for a replica that cannot be reached, for as long as its lease may last.
#[tokio::test]
async fn deactivate_waits_for_an_embedded_replica_that_cannot_be_reached() {
    let serve = Serve::start_with(&["--lease", "2s"]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    let network = Proxy::to(serve.admin).await;
    let client = embedded_at(network.at, &admin).await;
    network.set(Network::Silent);
    let deactivation = tokio::spawn({
        let admin = admin.clone();
        async move { admin.deactivate("6666", "a").await.unwrap().receipt.unwrap() }
    });
    let (mut accepted_before, any) = (0, Expectation::default());
    while !deactivation.is_finished() {
        accepted_before += usize::from(client.validate(&token, &any).await.is_ok_and(|v| v.verdict == Verdict::Valid));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A response that was in flight when Deactivate returned does not count; this one does.
    let after = client.validate(&token, &any).await;
    assert!(!after.as_ref().is_ok_and(|validation| validation.verdict == Verdict::Valid), "{after:?}");
    assert_eq!(deactivation.await.unwrap().enforced_by(), EnforcedBy::WaitOut);
    assert!(accepted_before > 10, "{accepted_before}: the replica accepted too few requests to test anything");
}

/// The guarantees of every kind of client.
async fn accepts_and_refuses_correctly(client: &Client, admin: &Admin) {
    const TIMES: usize = size::DEACTIVATIONS;
    let service = Service::start(client).await;
    admin.create_project("6666").await.unwrap();
    let foreign = admin.create_project("7777").await.unwrap().default_token;
    let good = admin.create_key("6666", "server_prod").await.unwrap().token;
    let web_key = Key { platform: "javascript".to_owned(), ..Default::default() };
    let in_a_page = admin.create_key_as("6666", "web", web_key).await.unwrap().token;
    for (path, token, status) in [
        ("/", good.as_str(), 200),
        ("/", &foreign, 200),
        ("/", &in_a_page, 403),
        ("/", "hunter2", 401),
        ("/", &"k".repeat(20_000), 401),
        ("/only-6666", &good, 200),
        ("/only-6666", &foreign, 403),
        ("/app", &in_a_page, 200),
    ] {
        assert_eq!(service.status(path, token).await, status, "{path}");
    }
    let none = web::get(service.at, "/", &[]).await;
    assert_eq!((none.status, none.headers["content-type"].as_str()), (401, "application/problem+json"));
    let spoofed = [(KEY, good.as_str()), ("x-keyward-project", "9999"), ("x_keyward_key", "root")];
    let seen: Value = serde_json::from_str(&web::get(service.at, "/", &spoofed).await.body).unwrap();
    let wanted = json!({ "project": "6666", "key": "server_prod", "platform": "server", "headers": ["host"] });
    assert_eq!(seen, wanted, "the token and the spoofed headers are removed");
    let mut accepted = 0;
    for n in 0..TIMES {
        let name = format!("k{n}");
        let token = admin.create_key("6666", &name).await.unwrap().token;
        assert_eq!(service.status("/", &token).await, 200);
        admin.deactivate("6666", &name).await.unwrap();
        accepted += usize::from(service.status("/", &token).await != 401);
    }
    report::line(&format!("{TIMES} deactivations, each followed by a request: {accepted} accepted"));
    assert_eq!(accepted, 0);
    client.leave().await;
    assert_eq!(service.status("/", &good).await, 503, "a client that has left does not answer");
}

#[tokio::test]
async fn a_service_that_validates_by_call_accepts_valid_tokens_only() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    accepts_and_refuses_correctly(&by_call(&[serve.validator]), &admin).await;
}

#[tokio::test]
async fn a_service_that_validates_by_stream_accepts_valid_tokens_only() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    accepts_and_refuses_correctly(&by_stream(&[serve.validator]), &admin).await;
}

#[tokio::test]
async fn a_service_with_an_embedded_replica_accepts_valid_tokens_only() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    accepts_and_refuses_correctly(&embedded(&serve, &admin).await, &admin).await;
}

#[tokio::test]
async fn a_client_can_validate_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("grpc.sock").display());
    let serve = Serve::start_with(&["--validator-listen", &socket]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let at = Validators::at([socket]).timeout(PATIENCE);
    for client in [Client::by_call(&at).unwrap(), Client::by_stream(&at).unwrap()] {
        let validation = client.validate(&token, &Expectation::default()).await.unwrap();
        assert_eq!(validation.verdict, Verdict::Valid);
    }
}

/// One key that stays active, and a validator that hangs, ends and comes back.
async fn refuses_without_a_validator(connect: fn(&Validators) -> Client) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let validator = serve.spawn_validator("sidecar");
    let client = connect(&Validators::at([format!("http://{}", validator.grpc)]));
    let service = Service::start(&client).await;
    until_accepted(&service, &token).await;
    validator.process.signal(Signal::STOP);
    let begun = Instant::now();
    assert_eq!(service.status("/", &token).await, 503, "the validator hangs");
    // Far more than the configured 250 ms, far less than the timeout of an HTTP client.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    validator.process.signal(Signal::CONT);
    until_accepted(&service, &token).await;
    let validator = serve.restart_validator("sidecar", validator, &[]);
    until_accepted(&service, &token).await;
    drop(validator);
    assert_eq!(service.status("/", &token).await, 503, "the validator is gone");
}

async fn until_accepted(service: &Service, token: &str) {
    let begun = Instant::now();
    loop {
        match service.status("/", token).await {
            200 => return,
            503 => assert!(begun.elapsed() < Duration::from_secs(30), "the service did not recover"),
            other => panic!("{other}: a good key was refused as a bad one"),
        }
    }
}

#[tokio::test]
async fn a_service_that_validates_by_call_refuses_during_an_outage_and_recovers() {
    refuses_without_a_validator(|validators| Client::by_call(validators).unwrap()).await;
}

#[tokio::test]
async fn a_service_that_validates_by_stream_refuses_during_an_outage_and_recovers() {
    refuses_without_a_validator(|validators| Client::by_stream(validators).unwrap()).await;
}

/// A way for a validator to become unavailable.
type Outage = fn(&mut Validator);

/// With two validators, one becomes unavailable in each possible way, and no request fails.
async fn fails_over(client: fn(&[SocketAddr]) -> Client) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    for (name, outage) in [("leaves", leave as Outage), ("hangs", hang), ("dies", die)] {
        let mut first = serve.spawn_validator(name);
        // The first validator of the list is the one in use.
        let service = Service::start(&client(&[first.grpc, serve.validator])).await;
        for n in 0..40 {
            if n == 10 {
                outage(&mut first);
            }
            assert_eq!(service.status("/", &token).await, 200, "request {n}, the first validator {name}");
        }
    }
}

fn leave(validator: &mut Validator) {
    validator.process.signal(Signal::TERM);
}

fn hang(validator: &mut Validator) {
    validator.process.signal(Signal::STOP);
}

fn die(validator: &mut Validator) {
    validator.process.kill();
}

#[tokio::test]
async fn no_call_fails_while_one_of_two_validators_is_available() {
    fails_over(by_call).await;
}

#[tokio::test]
async fn no_request_on_a_stream_fails_while_one_of_two_validators_is_available() {
    fails_over(by_stream).await;
}

#[tokio::test]
async fn an_embedded_replica_is_fenced_and_stops_answering_when_its_lease_lapses() {
    const LEASE: Duration = Duration::from_secs(2);
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let client = embedded(&serve, &admin).await;
    let any = Expectation::default();
    let receipt = admin.create_key("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!(
        (receipt.enforced_by(), receipt.validators_acked),
        (EnforcedBy::Acks, 2),
        "the embedded replica counts as a validator"
    );
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2));
    let alive = Instant::now();
    assert_eq!(client.validate(&token, &any).await.unwrap().verdict, Verdict::Valid);
    serve.process.kill();
    let died = Instant::now();
    let last = loop {
        let sent = Instant::now();
        match client.validate(&token, &any).await {
            Ok(validation) => {
                assert_eq!(validation.verdict, Verdict::Valid, "a failure must never look like a refusal");
            }
            Err(unavailable) => {
                assert_eq!(unavailable, Unavailable::NoLease);
                break sent;
            }
        }
        assert!(alive.elapsed() < Duration::from_secs(30), "it answers without an admin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    report::line(&format!("an embedded replica without its admin: no answers after {:?}", last - died));
    // Its lease cannot begin after the admin's end. The replica answers from it for most of its time.
    assert!(last - died <= LEASE + Duration::from_millis(100), "{:?}", last - died);
    assert!(last - died >= LEASE / 2, "{:?}", last - died);
    for _ in 0..100 {
        assert_eq!(client.validate(&token, &any).await, Err(Unavailable::NoLease), "and none later");
    }
}

#[tokio::test]
async fn deactivate_does_not_wait_for_an_embedded_replica_that_has_left() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_key("6666", "a").await.unwrap();
    let client = embedded(&serve, &admin).await;
    client.leave().await;
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    let outcome = (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed);
    assert_eq!(outcome, (EnforcedBy::Acks, 1, 0));
}
