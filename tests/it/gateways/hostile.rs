//! Requests that try to get past a gateway: each is sent without a token, with another project's and with a good one.

use keyward_tests::client::Admin;
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::Serve;
use keyward_tests::raw::ask;
use keyward_tests::recorder::Recorder;
use keyward_tests::report;

use super::judge::{Caller, judge};
use super::rows::{Message, Row, rows};

/// The tokens of one run of the table.
pub(super) struct Tokens {
    /// Of `projects/6666/keys/server_prod`.
    pub(super) good: String,
    /// Of `projects/7777/keys/foreign`.
    pub(super) foreign: String,
}

/// Creates both projects and their keys.
pub(super) async fn tokens(admin: &Admin) -> Tokens {
    admin.create_project("6666").await.unwrap();
    admin.create_project("7777").await.unwrap();
    Tokens {
        good: admin.create_key("6666", "server_prod").await.unwrap().token,
        foreign: admin.create_key("7777", "foreign").await.unwrap().token,
    }
}

/// A gateway, and the upstream behind it.
type To = (Kind, Gateway, Recorder);

/// The answer's status, and what is wrong with what reached the upstream.
async fn send(row: &Row, to: &To, caller: Caller, tokens: &Tokens) -> (u16, Vec<String>) {
    let (kind, gateway, upstream) = to;
    upstream.take();
    let token = match caller {
        Caller::Nobody => None,
        Caller::Foreign => Some(tokens.foreign.as_str()),
        Caller::Good => Some(tokens.good.as_str()),
    };
    let head = match row.message(token, tokens) {
        Message::Http1(bytes) => ask(gateway.at, &bytes).await.unwrap().0,
        Message::Http2(request) => request.ask(gateway.at).await.unwrap(),
    };
    let recorded = upstream.take();
    let mut faults: Vec<_> = recorded.iter().flat_map(|request| judge(request, *kind, caller, row, tokens)).collect();
    // 502 is a gateway's word for an answer of the upstream that it does not accept.
    let through = matches!(head.status, 101 | 200 | 502) && !row.answered_by_gateway.contains(kind);
    if recorded.len() != usize::from(through) {
        faults.push(format!("{} requests reached the upstream, and the answer is {}", recorded.len(), head.status));
    }
    (head.status, faults)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hostile_request_gets_past_any_gateway() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let tokens = tokens(&admin).await;
    let mut gateways = Vec::new();
    for kind in Kind::ALL {
        let upstream = Recorder::start().await;
        gateways.push((kind, Gateway::start(kind, &[ValidatorAt::in_serve(&serve)], upstream.at), upstream));
    }
    let heading: String = Kind::ALL.iter().map(|kind| format!("{:>14}", format!("{kind:?}"))).collect();
    report::line(&format!("{:56}{heading}", "status without a token / wrong project / good"));
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for row in rows() {
        let mut line = String::new();
        for (to, wanted) in gateways.iter().zip(row.cells) {
            let kind = to.0;
            let mut seen = [0; 3];
            let mut marked = false;
            for (caller, place) in [Caller::Nobody, Caller::Foreign, Caller::Good].into_iter().zip(&mut seen) {
                let (status, faults) = send(&row, to, caller, &tokens).await;
                *place = status;
                cells += 1;
                marked |= !faults.is_empty();
                wrong.extend(faults.into_iter().map(|fault| format!("{kind:?}, {}, {caller:?}: {fault}", row.name)));
            }
            if seen != wanted {
                marked = true;
                wrong.push(format!("{kind:?}, {}: {seen:?} instead of {wanted:?}", row.name));
            }
            let cell = format!("{}{}/{}/{}", if marked { "!" } else { "" }, seen[0], seen[1], seen[2]);
            line.push_str(&format!("{cell:>14}"));
        }
        report::line(&format!("{:56}{line}", row.name));
    }
    report::line(&format!("{cells} cells, {} faults", wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
