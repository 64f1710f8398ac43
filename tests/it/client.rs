//! A Rust service that checks keys by itself, in each of the three ways to ask.

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
use keyward_tests::{report, web};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const KEY: &str = "x-api-key";

/// More than this machine's noise, where a test is about something else than time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service behind the layer; ends when dropped.
pub(super) struct Service {
    pub(super) at: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    pub(super) async fn start(client: &Client) -> Self {
        let any = KeywardLayer::for_any_project(client.clone());
        let of_6666 = KeywardLayer::for_project(client.clone(), "6666").unwrap();
        let app = Router::new()
            .route("/", get(tell).layer(any.clone()))
            .route("/only-6666", get(tell).layer(of_6666))
            .route("/app", get(tell).layer(any.allow_client_keys()));
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

/// Tells who asked, and what else of the request came through.
async fn tell(Extension(key): Extension<ApiKey>, headers: HeaderMap) -> String {
    let names: Vec<_> = headers.keys().map(ToString::to_string).collect();
    let told =
        json!({ "project": key.project(), "key": key.key(), "platform": key.platform().as_str(), "headers": names });
    told.to_string()
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

/// A client with a replica of its own, that may answer.
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
async fn nobody_is_asked_for_any_project_by_a_name_that_is_none() {
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

/// A deactivation does not return while a replica has not heard of it and may still answer.
#[tokio::test]
async fn a_replica_that_hears_nothing_is_waited_for() {
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
    // The last answer may have been under way when it returned; this one is not.
    let after = client.validate(&token, &any).await;
    assert!(!after.as_ref().is_ok_and(|validation| validation.verdict == Verdict::Valid), "{after:?}");
    assert_eq!(deactivation.await.unwrap().enforced_by(), EnforcedBy::WaitOut);
    assert!(accepted_before > 10, "{accepted_before}: the replica was of no danger");
}

/// What every way to ask must do.
async fn lets_in_whom_it_should(client: &Client, admin: &Admin) {
    const TIMES: usize = 100;
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
    let told: Value = serde_json::from_str(&web::get(service.at, "/", &spoofed).await.body).unwrap();
    let wanted = json!({ "project": "6666", "key": "server_prod", "platform": "server", "headers": ["host"] });
    assert_eq!(told, wanted, "neither the token nor what was spoofed goes on");
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
    assert_eq!(service.status("/", &good).await, 503, "who has left has no answers");
}

#[tokio::test]
async fn a_service_that_asks_by_call_lets_in_whom_it_should() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    lets_in_whom_it_should(&by_call(&[serve.validator]), &admin).await;
}

#[tokio::test]
async fn a_service_that_asks_down_a_stream_lets_in_whom_it_should() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    lets_in_whom_it_should(&by_stream(&[serve.validator]), &admin).await;
}

#[tokio::test]
async fn a_service_with_a_replica_of_its_own_lets_in_whom_it_should() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    lets_in_whom_it_should(&embedded(&serve, &admin).await, &admin).await;
}

#[tokio::test]
async fn a_validator_on_a_unix_socket_can_be_asked() {
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

/// A key that is good throughout, and validators that come and go.
async fn refuses_while_nobody_answers(ask: fn(&Validators) -> Client) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let validator = serve.spawn_validator("sidecar");
    let client = ask(&Validators::at([format!("http://{}", validator.grpc)]));
    let service = Service::start(&client).await;
    until_let_in(&service, &token).await;
    validator.process.signal(Signal::STOP);
    let begun = Instant::now();
    assert_eq!(service.status("/", &token).await, 503, "the validator hangs");
    // Far more than the 250 ms that are meant, far less than a client's patience.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    validator.process.signal(Signal::CONT);
    until_let_in(&service, &token).await;
    let validator = serve.restart_validator("sidecar", validator, &[]);
    until_let_in(&service, &token).await;
    drop(validator);
    assert_eq!(service.status("/", &token).await, 503, "the validator is gone");
}

async fn until_let_in(service: &Service, token: &str) {
    let begun = Instant::now();
    loop {
        match service.status("/", token).await {
            200 => return,
            503 => assert!(begun.elapsed() < Duration::from_secs(30), "does not come back"),
            other => panic!("{other}: a good key was refused as a bad one"),
        }
    }
}

#[tokio::test]
async fn without_an_answer_to_its_calls_a_service_refuses_and_goes_on_by_itself() {
    refuses_while_nobody_answers(|validators| Client::by_call(validators).unwrap()).await;
}

#[tokio::test]
async fn without_an_answer_on_its_stream_a_service_refuses_and_goes_on_by_itself() {
    refuses_while_nobody_answers(|validators| Client::by_stream(validators).unwrap()).await;
}

/// A way to go away.
type Away = fn(&mut Validator);

/// Of two validators one goes away, in each way there is, and no request fails.
async fn goes_on_with_the_other(client: fn(&[SocketAddr]) -> Client) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    for (name, away) in [("leaves", leave as Away), ("hangs", hang), ("dies", die)] {
        let mut first = serve.spawn_validator(name);
        // In this order: the first is the one that is asked.
        let service = Service::start(&client(&[first.grpc, serve.validator])).await;
        for n in 0..40 {
            if n == 10 {
                away(&mut first);
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
async fn of_two_validators_one_may_go_and_no_call_fails() {
    goes_on_with_the_other(by_call).await;
}

#[tokio::test]
async fn of_two_validators_one_may_go_and_no_request_on_the_stream_fails() {
    goes_on_with_the_other(by_stream).await;
}

#[tokio::test]
async fn an_embedded_replica_is_waited_for_and_has_no_answers_when_its_lease_has_lapsed() {
    const LEASE: Duration = Duration::from_secs(2);
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let client = embedded(&serve, &admin).await;
    let any = Expectation::default();
    let receipt = admin.create_key("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "it counts as a validator");
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2));
    let alive = Instant::now();
    assert_eq!(client.validate(&token, &any).await.unwrap().verdict, Verdict::Valid);
    serve.process.kill();
    let died = Instant::now();
    let last = loop {
        let asked = Instant::now();
        match client.validate(&token, &any).await {
            Ok(validation) => assert_eq!(validation.verdict, Verdict::Valid, "a fault is never a refusal"),
            Err(unavailable) => {
                assert_eq!(unavailable, Unavailable::NoLease);
                break asked;
            }
        }
        assert!(alive.elapsed() < Duration::from_secs(30), "it answers without an admin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    report::line(&format!("an embedded replica without its admin: no answers after {:?}", last - died));
    // Its lease cannot have begun after the admin died; and it rides out what it can.
    assert!(last - died <= LEASE + Duration::from_millis(100), "{:?}", last - died);
    assert!(last - died >= LEASE / 2, "{:?}", last - died);
    for _ in 0..100 {
        assert_eq!(client.validate(&token, &any).await, Err(Unavailable::NoLease), "and none later");
    }
}

#[tokio::test]
async fn an_embedded_replica_that_has_left_is_waited_for_no_longer() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_key("6666", "a").await.unwrap();
    let client = embedded(&serve, &admin).await;
    client.leave().await;
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    let told = (receipt.enforced_by(), receipt.validators_acked, receipt.validators_lapsed);
    assert_eq!(told, (EnforcedBy::Acks, 1, 0));
}
