//! Random combinations of headers: only exactly one well-formed, valid token is accepted, by every kind of front.

use std::collections::BTreeSet;

use hyper::Method;
use keyward_proto::envoy::attribute_context::{HeaderMap, HttpRequest, Request as Attributes};
use keyward_proto::envoy::authorization_client::AuthorizationClient;
use keyward_proto::envoy::{AttributeContext, CheckRequest, HeaderValue as Raw};
use keyward_tests::client::{Admin, Transport, transport};
use keyward_tests::keyward::Serve;
use keyward_tests::report;
use keyward_tests::web::Connection;

use crate::client::{Service, embedded};

const SEED: u64 = 0x2026_1124_5eed_0005;
const MIXES: usize = 4_000;

/// Marsaglia's xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The meaning of a header, defined here independently of the code under test.
#[derive(Clone, Debug)]
enum Meaning {
    Nothing,
    /// An authorization of another scheme, meant for the upstream.
    Foreign,
    Bearer(String),
    Bare(String),
    /// An ambiguous header.
    Poison,
}

#[derive(Clone, Debug)]
struct Header {
    name: &'static str,
    value: Vec<u8>,
    meaning: Meaning,
}

fn header(name: &'static str, value: &str, meaning: Meaning) -> Header {
    Header { name, value: value.as_bytes().to_vec(), meaning }
}

/// Returns a random header, of the kinds that clients, attackers and gateways send.
fn draw(dice: &mut Dice, good: &[String], bad: &[String]) -> Header {
    let any = |dice: &mut Dice| {
        let from = if dice.below(2) == 0 { good } else { bad };
        dice.pick(from).clone()
    };
    let (first, second) = (any(dice), any(dice));
    let bearer = |text: String, token: &str| header("authorization", &text, Meaning::Bearer(token.to_owned()));
    match dice.below(16) {
        0..=3 => header("x-api-key", &first, Meaning::Bare(first.clone())),
        4 | 5 => bearer(format!("Bearer {first}"), &first),
        6 => bearer(format!("bEaReR   {first}"), &first),
        7 => header("authorization", "Basic dTpw", Meaning::Foreign),
        8 => header("authorization", &format!("Basic dTpw,Bearer {first}"), Meaning::Poison),
        9 => header("authorization", "Bearer", Meaning::Poison),
        10 => header("x-api-key", &format!("{first},{second}"), Meaning::Bare(format!("{first},{second}"))),
        11 => {
            let value = [first.as_bytes(), b"\xff"].concat();
            Header { name: "x-api-key", value, meaning: Meaning::Poison }
        }
        12 => bearer(format!("Bearer {first}, Bearer {second}"), &format!("{first}, Bearer {second}")),
        13 => header("cookie", &format!("key={first}"), Meaning::Nothing),
        14 => header("x_api_key", &first, Meaning::Nothing),
        _ => header("x-keyward-project", "6666", Meaning::Nothing),
    }
}

/// Returns `true` if these headers must be accepted: exactly one credential, and a valid one.
fn must_accept(mix: &[Header], good: &[String]) -> bool {
    let (mut tokens, mut bearer, mut foreign) = (BTreeSet::new(), false, false);
    for header in mix {
        match &header.meaning {
            Meaning::Nothing => {}
            Meaning::Foreign => foreign = true,
            Meaning::Bearer(token) => {
                bearer = true;
                tokens.insert(token.clone());
            }
            Meaning::Bare(token) => {
                tokens.insert(token.clone());
            }
            Meaning::Poison => return false,
        }
    }
    tokens.len() == 1 && tokens.iter().all(|token| good.contains(token)) && !(bearer && foreign)
}

/// Sends the headers to the hook, or to a service behind the layer. Returns `true` if they were accepted.
async fn http_accepts(front: &mut Connection, path: &str, mix: &[Header]) -> bool {
    let headers: Vec<_> = mix.iter().map(|header| (header.name, header.value.as_slice())).collect();
    let status = front.request_raw(Method::GET, path, &headers).await.unwrap().status;
    assert!(status == 200 || status == 401, "{status} for {mix:?}");
    status == 200
}

/// Sends the headers to Envoy's Check as raw bytes, as Envoy does. Returns `true` if they were accepted.
async fn check_accepts(client: &mut AuthorizationClient<Transport>, mix: &[Header]) -> bool {
    let raw = |Header { name, value, .. }: &Header| Raw {
        key: (*name).to_owned(),
        raw_value: value.clone(),
        ..Default::default()
    };
    let header_map = Some(HeaderMap { headers: mix.iter().map(raw).collect() });
    let http = HttpRequest { method: "GET".to_owned(), path: "/".to_owned(), header_map, ..Default::default() };
    let attributes = AttributeContext { request: Some(Attributes { http: Some(http) }), ..Default::default() };
    let answer = client.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner();
    answer.status.unwrap().code == 0
}

#[tokio::test]
async fn any_combination_of_headers_is_accepted_only_with_exactly_one_valid_token() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let mut good = vec![admin.create_project("6666").await.unwrap().default_token];
    good.push(admin.create_key("6666", "second").await.unwrap().token);
    let dead = admin.create_key("6666", "dead").await.unwrap().token;
    admin.deactivate("6666", "dead").await.unwrap();
    let truncated = good[0][..good[0].len() - 1].to_owned();
    let bad = vec![dead, truncated, String::new(), "k".repeat(9_000), format!("{}0", good[0]), "ключ".to_owned()];
    let mut hook = Connection::open(serve.hook).await.unwrap();
    let mut check = AuthorizationClient::new(transport(serve.validator, None).await);
    let service = Service::start(&embedded(&serve, &admin).await).await;
    let mut layer = Connection::open(service.at).await.unwrap();
    let (mut dice, mut accepted) = (Dice(SEED), 0);
    for n in 0..MIXES {
        let mix: Vec<_> = (0..dice.below(5)).map(|_| draw(&mut dice, &good, &bad)).collect();
        let must = must_accept(&mix, &good);
        let of_seed = format!("mix {n} of seed {SEED:#x}");
        assert_eq!(http_accepts(&mut hook, "/auth", &mix).await, must, "{of_seed}, the hook: {mix:?}");
        assert_eq!(http_accepts(&mut layer, "/", &mix).await, must, "{of_seed}, the layer: {mix:?}");
        assert_eq!(check_accepts(&mut check, &mix).await, must, "{of_seed}, Check: {mix:?}");
        accepted += usize::from(must);
    }
    report::line(&format!(
        "header mixes, seed {SEED:#x}: {MIXES}, {accepted} accepted, as expected, by all three fronts"
    ));
    // Both outcomes must occur often.
    assert!(accepted > MIXES / 20 && accepted < MIXES / 2, "{accepted}");
}
