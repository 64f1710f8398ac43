//! Requests that try to bypass a gateway. Each is sent without a token, with a token of another project, and with a
//! valid one.

use keyward_tests::client::Admin;
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::Serve;
use keyward_tests::raw::exchange;
use keyward_tests::recorder::Recorder;
use keyward_tests::report;

use super::judge::{Caller, judge};
use super::rows::{Message, Row, rows};

/// The tokens for the table.
pub(super) struct Tokens {
    /// Token of `projects/6666/keys/server_prod`.
    pub(super) good: String,
    /// Token of `projects/7777/keys/foreign`.
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

/// A gateway with its upstream.
type Site = (Kind, Gateway, Recorder);

/// Sends a row's request. Returns the response's status, and the faults in what reached the upstream.
async fn send(row: &Row, site: &Site, caller: Caller, tokens: &Tokens) -> (u16, Vec<String>) {
    let (kind, gateway, upstream) = site;
    upstream.take();
    let token = match caller {
        Caller::Anonymous => None,
        Caller::Foreign => Some(tokens.foreign.as_str()),
        Caller::Good => Some(tokens.good.as_str()),
    };
    let head = match row.message(token, tokens) {
        Message::Http1(bytes) => exchange(gateway.at, &bytes).await.unwrap().0,
        Message::Http2(request) => request.send(gateway.at).await.unwrap(),
    };
    let recorded = upstream.take();
    let mut faults: Vec<_> = recorded.iter().flat_map(|request| judge(request, *kind, caller, row, tokens)).collect();
    // A gateway answers 502 when it does not accept the upstream's response, so the request did get through.
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
        for (site, wanted) in gateways.iter().zip(row.cells) {
            let kind = site.0;
            let mut seen = [0; 3];
            let mut marked = false;
            for (caller, status_cell) in [Caller::Anonymous, Caller::Foreign, Caller::Good].into_iter().zip(&mut seen) {
                let (status, faults) = send(&row, site, caller, &tokens).await;
                *status_cell = status;
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
