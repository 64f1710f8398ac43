//! Any header soup: only one well-formed, valid token gets through, whichever front it is put before.

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
const SOUPS: usize = 4_000;

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

/// What one header means, said here once more and not asked of the code under test.
#[derive(Clone, Debug)]
enum Meaning {
    Nothing,
    /// An authorization that is the upstream's.
    Foreign,
    Bearer(String),
    Bare(String),
    /// Nobody can say what it is.
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

/// One header, drawn from all that clients, attackers and gateways have been seen to send.
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

/// Whether a soup may get through: exactly one credential, of those that are valid.
fn may_pass(soup: &[Header], good: &[String]) -> bool {
    let (mut tokens, mut bearer, mut foreign) = (BTreeSet::new(), false, false);
    for header in soup {
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

/// The hook, or a service behind the layer.
async fn http_passes(front: &mut Connection, path: &str, soup: &[Header]) -> bool {
    let headers: Vec<_> = soup.iter().map(|header| (header.name, header.value.as_slice())).collect();
    let status = front.request_raw(Method::GET, path, &headers).await.unwrap().status;
    assert!(status == 200 || status == 401, "{status} for {soup:?}");
    status == 200
}

/// Envoy's Check, with the headers as Envoy sends them raw.
async fn check_passes(client: &mut AuthorizationClient<Transport>, soup: &[Header]) -> bool {
    let raw = |Header { name, value, .. }: &Header| Raw {
        key: (*name).to_owned(),
        raw_value: value.clone(),
        ..Default::default()
    };
    let header_map = Some(HeaderMap { headers: soup.iter().map(raw).collect() });
    let http = HttpRequest { method: "GET".to_owned(), path: "/".to_owned(), header_map, ..Default::default() };
    let attributes = AttributeContext { request: Some(Attributes { http: Some(http) }), ..Default::default() };
    let answer = client.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner();
    answer.status.unwrap().code == 0
}

#[tokio::test]
async fn any_header_soup_is_let_through_only_with_exactly_one_valid_token() {
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
    let mut service_asked = Connection::open(service.at).await.unwrap();
    let (mut dice, mut passed) = (Dice(SEED), 0);
    for n in 0..SOUPS {
        let soup: Vec<_> = (0..dice.below(5)).map(|_| draw(&mut dice, &good, &bad)).collect();
        let may = may_pass(&soup, &good);
        let of_seed = format!("soup {n} of seed {SEED:#x}");
        assert_eq!(http_passes(&mut hook, "/auth", &soup).await, may, "{of_seed}, the hook: {soup:?}");
        assert_eq!(http_passes(&mut service_asked, "/", &soup).await, may, "{of_seed}, the layer: {soup:?}");
        assert_eq!(check_passes(&mut check, &soup).await, may, "{of_seed}, Check: {soup:?}");
        passed += usize::from(may);
    }
    report::line(&format!(
        "header soups, seed {SEED:#x}: {SOUPS}, of which {passed} may pass, and did, through all three fronts"
    ));
    // Neither way is the test empty.
    assert!(passed > SOUPS / 20 && passed < SOUPS / 2, "{passed}");
}
