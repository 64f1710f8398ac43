//! Requests that try to bypass a gateway. Each is sent without a token, with a token of another project, and with a
//! valid one.

use std::fmt;
use std::sync::Arc;

use keyward_tests::client::Admin;
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::Serve;
use keyward_tests::raw::exchange;
use keyward_tests::recorder::Recorder;
use keyward_tests::{report, size};

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

const CALLERS: [Caller; 3] = [Caller::Anonymous, Caller::Foreign, Caller::Good];

/// The result of one row at one gateway: the status for each caller, and the faults.
struct Cell {
    statuses: [u16; 3],
    faults: Vec<String>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [anonymous, foreign, good] = self.statuses;
        write!(f, "{}{anonymous}/{foreign}/{good}", if self.faults.is_empty() { "" } else { "!" })
    }
}

/// Sends every row to one gateway, number `n` of [`Kind::ALL`], for every caller.
async fn column(site: &Site, n: usize, rows: &[Row], tokens: &Tokens) -> Vec<Cell> {
    let (kind, mut cells) = (site.0, Vec::new());
    for row in rows {
        let mut cell = Cell { statuses: [0; 3], faults: Vec::new() };
        for (caller, cell_status) in CALLERS.into_iter().zip(&mut cell.statuses) {
            let (status, faults) = send(row, site, caller, tokens).await;
            *cell_status = status;
            cell.faults.extend(faults.into_iter().map(|fault| format!("{kind:?}, {}, {caller:?}: {fault}", row.name)));
        }
        let (seen, wanted) = (cell.statuses, row.cells[n]);
        if seen != wanted {
            cell.faults.push(format!("{kind:?}, {}: {seen:?} instead of {wanted:?}", row.name));
        }
        cells.push(cell);
    }
    cells
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hostile_request_gets_past_any_gateway() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let tokens = Arc::new(tokens(&admin).await);
    let rows: Arc<Vec<_>> = Arc::new(rows().into_iter().step_by(size::HOSTILE_ROWS_STEP).collect());
    let mut columns = Vec::new();
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        let upstream = Recorder::start().await;
        let site = (kind, Gateway::start(kind, &[ValidatorAt::in_serve(&serve)], upstream.at), upstream);
        let (rows, tokens) = (Arc::clone(&rows), Arc::clone(&tokens));
        columns.push(tokio::spawn(async move { column(&site, n, &rows, &tokens).await }));
    }
    let mut cells = Vec::new();
    for column in columns {
        cells.push(column.await.unwrap());
    }
    let heading: String = Kind::ALL.iter().map(|kind| format!("{:>14}", format!("{kind:?}"))).collect();
    report::line(&format!("{:56}{heading}", "status without a token / wrong project / good"));
    for (n, row) in rows.iter().enumerate() {
        let line: String = cells.iter().map(|column| format!("{:>14}", column[n].to_string())).collect();
        report::line(&format!("{:56}{line}", row.name));
    }
    let faults: Vec<_> = cells.iter().flatten().flat_map(|cell| &cell.faults).cloned().collect();
    report::line(&format!("{} cells, {} faults", rows.len() * Kind::ALL.len() * CALLERS.len(), faults.len()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
