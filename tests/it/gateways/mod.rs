//! Real gateways, with the configurations that the docs show, in front of a real upstream.

mod browsers;
mod hostile;
mod judge;
mod passing;
mod rows;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use keyward_proto::admin::Key;
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient};
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::{Serve, Validator};
use keyward_tests::upstream::Upstream;
use keyward_tests::web::{Answer, Connection, get};
use keyward_tests::{report, size};
use rustix::process::Signal;
use serde_json::Value;

/// The tokens for the table.
struct Tokens {
    good: String,
    other: String,
    foreign: String,
    client: String,
    deactivated: String,
    expired: String,
}

/// The expected outcome of one request at one gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cell {
    /// Passed to the upstream with this project and key.
    Through(&'static str, &'static str),
    /// Passed to the upstream without an identity.
    Public,
    /// Refused with this status.
    Refused(u16),
    /// Refused with this status by the gateway itself, without a call to the validator. For example, nginx refuses two
    /// authorization headers, and a header of 8 KiB.
    GatewayItself(u16),
}

use Cell::{GatewayItself, Public, Refused, Through};

/// One request, with its path, its headers, and the outcome for each of [`Kind::ALL`].
struct Row {
    name: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    cells: [Cell; 5],
}

fn row(name: &'static str, path: &'static str, headers: &[(&'static str, &str)], cell: Cell) -> Row {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Row { name, path, headers, cells: [cell; 5] }
}

impl Row {
    /// Sets another outcome for one gateway.
    fn but(mut self, kind: Kind, cell: Cell) -> Self {
        for (each, cell_of_kind) in Kind::ALL.iter().zip(&mut self.cells) {
            if *each == kind {
                *cell_of_kind = cell;
            }
        }
        self
    }
}

const KEY: &str = "x-api-key";
const AUTH: &str = "authorization";

fn rows(tokens: &Tokens) -> Vec<Row> {
    let bearer = |token: &str| format!("Bearer {token}");
    let (good, other, foreign) = (tokens.good.as_str(), tokens.other.as_str(), tokens.foreign.as_str());
    let me = Through("6666", "server_prod");
    let odd = |path| {
        let row = row("another spelling of a path", path, &[(KEY, foreign)], Refused(403));
        // Envoy normalizes the path; the others refuse such paths.
        [Kind::Nginx, Kind::Caddy, Kind::Haproxy].into_iter().fold(row, |row, kind| row.but(kind, GatewayItself(400)))
    };
    vec![
        row("no key", "/", &[], Refused(401)),
        row("bad", "/", &[(KEY, "hunter2")], Refused(401)),
        row("bad, as bearer", "/", &[(AUTH, "Bearer hunter2")], Refused(401)),
        row("empty", "/", &[(KEY, "")], Refused(401)),
        row("good", "/", &[(KEY, good)], me),
        row("good, as bearer", "/", &[(AUTH, &bearer(good))], me),
        row("good, in both headers", "/", &[(KEY, good), (AUTH, &bearer(good))], me),
        row("good, beside basic authentication", "/", &[(KEY, good), (AUTH, "Basic dTpw")], me),
        row("basic authentication alone", "/", &[(AUTH, "Basic dTpw")], Refused(401)),
        row("deactivated", "/", &[(KEY, &tokens.deactivated)], Refused(401)),
        row("expired", "/", &[(KEY, &tokens.expired)], Refused(401)),
        row("right project", "/only-6666", &[(KEY, good)], me),
        row("wrong project", "/only-6666/x", &[(KEY, foreign)], Refused(403)),
        row("wrong project, other case of letters", "/ONLY-6666", &[(KEY, foreign)], Refused(403)),
        row("wrong project, percent-encoded", "/only%2D6666", &[(KEY, foreign)], Refused(403)),
        odd("//only-6666"),
        odd("/x/../only-6666"),
        odd("/./only-6666/y"),
        odd("/x/%2e%2e/only-6666"),
        row("settings in the client's query", "/only-6666?project=7777", &[(KEY, foreign)], Refused(403)),
        row("client key on a server route", "/", &[(KEY, &tokens.client)], Refused(403)),
        row("client key, settings in its query", "/?allow_client_keys=true", &[(KEY, &tokens.client)], Refused(403)),
        // A path with a parameter is ambiguous, so every gateway refuses it itself.
        row(
            "client key, settings in its path",
            "/;allow_client_keys=true",
            &[(KEY, &tokens.client)],
            GatewayItself(400),
        ),
        row("client key where it may", "/app", &[(KEY, &tokens.client)], Through("6666", "web")),
        row("a key in the query", leak(format!("/?key={good}")), &[], Refused(401)),
        row("two x-api-key", "/", &[(KEY, good), (KEY, other)], Refused(401)),
        row("two x-api-key, one bad", "/", &[(KEY, good), (KEY, "hunter2")], Refused(401)),
        row("two authorization", "/", &[(AUTH, &bearer(good)), (AUTH, &bearer(other))], Refused(401))
            .but(Kind::Nginx, GatewayItself(400)),
        row("basic and bearer", "/", &[(AUTH, "Basic dTpw"), (AUTH, &bearer(good))], Refused(401))
            .but(Kind::Nginx, GatewayItself(400)),
        row("one of each that differ", "/", &[(KEY, other), (AUTH, &bearer(good))], Refused(401)),
        row("joined by a comma", "/", &[(KEY, &format!("{good},{other}"))], Refused(401)),
        row("not ASCII", "/", &[(KEY, "ключ")], Refused(401)),
        row("8 KiB", "/", &[(KEY, &"k".repeat(8_192))], Refused(401)).but(Kind::Nginx, GatewayItself(400)),
        row("spoofed identity", "/", &[(KEY, good), ("x-keyward-project", "9999"), ("X-Keyward-Key", "root")], me),
        row("spoofed, underscores", "/", &[(KEY, good), ("x_keyward_project", "9999"), ("X_KEYWARD_KEY", "root")], me),
        row("spoofed, twice", "/", &[(KEY, good), ("x-keyward-key", "a"), ("x-keyward-key", "b")], me),
        row("spoofed, public route", "/public", &[("x-keyward-project", "9999"), ("X-Keyward-Key", "root")], Public),
        row("spoofed, public, underscores", "/public/x", &[("x_keyward_project", "9999")], Public),
        row("spoofed hints to the gateway", "/", &[("x-envoy-auth-headers-to-remove", "x"), (KEY, good)], me),
        row(
            "spoofed original target",
            "/",
            &[("x-original-uri", "/?key=a"), ("x-forwarded-uri", "/"), (KEY, good)],
            me,
        ),
    ]
}

/// Makes a string `'static` for the table.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Returns the outcome of a request, from the response and the headers that the upstream saw.
fn judged(answer: &Answer, tokens: &Tokens) -> Cell {
    if answer.status != 200 {
        return Refused(answer.status);
    }
    let secrets = [&tokens.good, &tokens.other, &tokens.foreign, &tokens.client];
    assert!(!secrets.iter().any(|secret| answer.body.contains(*secret)), "a token reached the upstream");
    let seen: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("not the upstream's: {answer:?}"));
    let names = seen.as_object().unwrap().keys().filter(|name| name.replace('_', "-").starts_with("x-keyward-"));
    let identity: Vec<_> = names.map(|name| (name.as_str(), seen[name].as_str().unwrap())).collect();
    match identity.as_slice() {
        [] => Public,
        [("x-keyward-key", "server_prod"), ("x-keyward-project", "6666")] => Through("6666", "server_prod"),
        [("x-keyward-key", "web"), ("x-keyward-project", "6666")] => Through("6666", "web"),
        others => panic!("the upstream got the identity {others:?}"),
    }
}

async fn tokens(admin: &Admin, client: &ValidatorClient) -> Tokens {
    admin.create_project("6666").await.unwrap();
    let foreign = admin.create_project("7777").await.unwrap().default_token;
    let soon = SystemTime::now() + Duration::from_secs(2);
    let expiring = Key { expire_time: Some(soon.into()), ..Default::default() };
    let expired = admin.create_key_as("6666", "expired", expiring).await.unwrap().token;
    let web = Key { platform: "javascript".to_owned(), ..Default::default() };
    let tokens = Tokens {
        good: admin.create_key("6666", "server_prod").await.unwrap().token,
        other: admin.create_key("6666", "other").await.unwrap().token,
        foreign,
        client: admin.create_key_as("6666", "web", web).await.unwrap().token,
        deactivated: admin.create_key("6666", "dead").await.unwrap().token,
        expired,
    };
    admin.deactivate("6666", "dead").await.unwrap();
    while client.verdict(&tokens.expired).await != Verdict::Expired {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokens
}

/// Every gateway, each with its own upstream.
struct Gateways(Vec<(Kind, Gateway, Upstream)>);

impl Gateways {
    async fn start(validator: ValidatorAt) -> Self {
        let mut gateways = Vec::new();
        for kind in Kind::ALL {
            let upstream = Upstream::start().await;
            gateways.push((kind, Gateway::start(kind, &[validator], upstream.at), upstream));
        }
        Self(gateways)
    }

    /// Sends a request to each gateway in turn. Returns each status, and how long it took.
    async fn request(&self, path: &str, headers: &[(&str, &str)]) -> Vec<(Kind, u16, Duration)> {
        let mut answers = Vec::new();
        for (kind, gateway, _) in &self.0 {
            let begun = Instant::now();
            answers.push((*kind, get(gateway.at, path, headers).await.status, begun.elapsed()));
        }
        answers
    }

    fn requests(&self) -> Vec<usize> {
        self.0.iter().map(|(_, _, upstream)| upstream.requests()).collect()
    }
}

/// Prints a line of the matrix.
fn print(name: &str, cells: impl Iterator<Item = String>) {
    report::line(&format!("{name:36} {}", cells.map(|cell| format!("{cell:>16}")).collect::<String>()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_handles_every_request_as_in_the_table() {
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let mut validator = serve.spawn_validator("sidecar");
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let tokens = tokens(&admin, &ValidatorClient::connect(validator.grpc).await).await;
    let gateways = Gateways::start(ValidatorAt::of(&validator)).await;
    print("", Kind::ALL.iter().map(|kind| format!("{kind:?}")));
    let mut wrong = Vec::new();
    for row in rows(&tokens) {
        let mut line = Vec::new();
        for ((kind, gateway, upstream), wanted) in gateways.0.iter().zip(row.cells) {
            let before = upstream.requests();
            let headers: Vec<_> = row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = get(gateway.at, row.path, &headers).await;
            line.push(answer.status.to_string());
            if let Some(fault) = fault(&row, wanted, &answer, &tokens, upstream.requests() - before) {
                wrong.push(format!("{kind:?}, {}: {fault}", row.name));
            }
        }
        print(row.name, line.into_iter());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    without_a_validator(&gateways, &mut serve, &mut validator, &tokens.good).await;
}

/// Returns the fault of a response, if there is one.
fn fault(row: &Row, wanted: Cell, answer: &Answer, tokens: &Tokens, reached: usize) -> Option<String> {
    let seen = judged(answer, tokens);
    let through = matches!(wanted, Through(..) | Public);
    let is_problem = answer.headers.get("content-type").is_some_and(|value| value == "application/problem+json");
    let challenge = answer.headers.get("www-authenticate").map(String::as_str);
    let bare = "Bearer realm=\"keyward\"";
    match wanted {
        GatewayItself(status) if seen == Refused(status) && reached == 0 => None,
        _ if seen != wanted => Some(format!("{seen:?} instead of {wanted:?}: {}", answer.body)),
        _ if (reached == 1) != through => Some(format!("{reached} requests reached the upstream")),
        Refused(_) if !is_problem => Some(format!("not a problem: {:?}", answer.headers)),
        Refused(401) if !challenge.is_some_and(|value| value.starts_with(bare)) => Some("no challenge".to_owned()),
        Refused(403) if challenge.is_some() => Some("a challenge with 403".to_owned()),
        _ if through && row.name.contains("basic") && !answer.body.contains("Basic dTpw") => {
            Some("the upstream's own authentication was taken away".to_owned())
        }
        _ => None,
    }
}

/// Checks the cases without an available validator: the status is always 503, and no request reaches the upstream.
async fn without_a_validator(gateways: &Gateways, serve: &mut Serve, validator: &mut Validator, good: &str) {
    let before = gateways.requests();
    validator.process.signal(Signal::STOP);
    refused_with_503("validator hung", gateways, good).await;
    validator.process.signal(Signal::CONT);
    for (kind, gateway, _) in &gateways.0 {
        until(&format!("{kind:?} goes on"), || async { get(gateway.at, "/", &[(KEY, good)]).await.status == 200 })
            .await;
    }
    let after = gateways.requests();
    serve.process.kill();
    for (_, gateway, _) in &gateways.0 {
        until("the lease lapses", || async { get(gateway.at, "/", &[(KEY, good)]).await.status == 503 }).await;
    }
    let lapsed = gateways.requests();
    refused_with_503("validator without a lease", gateways, good).await;
    validator.process.kill();
    refused_with_503("validator down", gateways, good).await;
    assert_eq!(gateways.requests(), lapsed);
    assert!(before.iter().zip(&after).all(|(before, after)| *after == before + 1), "{before:?} {after:?}");
}

async fn refused_with_503(name: &str, gateways: &Gateways, good: &str) {
    let answers = gateways.request("/", &[(KEY, good)]).await;
    print(name, answers.iter().map(|(_, status, took)| format!("{status} in {} ms", took.as_millis())));
    for (kind, status, took) in answers {
        assert_eq!(status, 503, "{name}, {kind:?}");
        // Far more than each gateway's configured timeout, far less than a client's.
        assert!(took < Duration::from_secs(10), "{name}, {kind:?}: {took:?}");
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut poll: impl FnMut() -> F) {
    let begun = Instant::now();
    while !poll().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_refuses_the_first_request_after_deactivate_returns() {
    const TIMES: usize = size::DEACTIVATIONS;
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let gateways = Gateways::start(ValidatorAt::in_serve(&serve)).await;
    let mut accepted = 0;
    for n in 0..TIMES {
        let name = format!("k{n}");
        let token = admin.create_key("6666", &name).await.unwrap().token;
        let headers = [(KEY, token.as_str())];
        for (kind, status, _) in gateways.request("/", &headers).await {
            assert_eq!(status, 200, "{kind:?}");
        }
        admin.deactivate("6666", &name).await.unwrap();
        accepted += gateways.request("/", &headers).await.iter().filter(|(_, status, _)| *status != 401).count();
    }
    report::line(&format!("{} gateways, {TIMES} deactivations each: {accepted} accepted after", Kind::ALL.len()));
    assert_eq!(accepted, 0);
    assert!(gateways.requests().iter().all(|requests| *requests == TIMES), "{:?}", gateways.requests());
}

/// Sends requests in a loop until `stop` is set. Returns how many were accepted, and the other outcomes.
async fn load(at: SocketAddr, token: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut good, mut bad) = (0, Vec::new());
    let mut connection = Connection::open(at).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        match connection.request(Method::GET, "/", &[(KEY, &token)]).await {
            Ok(answer) if answer.status == 200 => good += 1,
            Ok(answer) => bad.push(format!("{} {}", answer.status, answer.body)),
            Err(error) => {
                bad.push(format!("{error:#}"));
                connection = Connection::open(at).await.unwrap();
            }
        }
    }
    (good, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_two_validators_behind_envoy_fails_no_request() {
    const DRAIN: [&str; 2] = ["--drain-delay", "3s"];
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let upstream = Upstream::start().await;
    let names = ["first", "second"];
    let validators = names.map(|name| serve.spawn_validator_with(name, &DRAIN));
    let gateway = Gateway::start(Kind::Envoy, &validators.each_ref().map(ValidatorAt::of), upstream.at);
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..4).map(|_| tokio::spawn(load(gateway.at, token.clone(), Arc::clone(&stop)))).collect();
    let mut restarted = Vec::new();
    for (name, validator) in names.into_iter().zip(validators) {
        let grpc = validator.grpc;
        validator.process.signal(Signal::TERM);
        until("Envoy takes it out", || async { !gateway.health().of(grpc) }).await;
        // Envoy removed the validator while it still answers, so no request meets a closed connection.
        assert_eq!(ValidatorClient::connect(grpc).await.verdict(&token).await, Verdict::Valid);
        restarted.push(serve.restart_validator(name, validator, &DRAIN));
        until("Envoy takes it in again", || async { gateway.health().of(grpc) }).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut good, mut bad) = (0, Vec::new());
    for load in loads {
        let (let_through, failed) = load.await.unwrap();
        good += let_through;
        bad.extend(failed);
    }
    report::line(&format!("rolling restart behind Envoy: {good} requests let through, {} failed", bad.len()));
    assert!(bad.is_empty(), "{} of {}: {:?}", bad.len(), good + bad.len(), bad.first());
    assert!(good > 500, "{good} requests are too few");
}
