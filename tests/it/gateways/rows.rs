//! The table of hostile requests.

use keyward_tests::gateway::Kind;
use keyward_tests::raw::Http2;

use super::hostile::Tokens;

/// The statuses that a row expects of one gateway: without a token, with a token of another project, with a valid one.
/// 0: the connection or stream ends without a response.
pub(super) type Cell = [u16; 3];

/// One hostile request.
pub(super) struct Row {
    /// Its name in the report.
    pub(super) name: String,
    /// The expected statuses of each of [`Kind::ALL`].
    pub(super) cells: [Cell; 5],
    /// `true` if an upgrade to WebSocket may reach the upstream.
    pub(super) websocket: bool,
    /// The gateways that answer 200 themselves, without the upstream.
    pub(super) answered_by_gateway: Vec<Kind>,
    request: Request,
}

enum Request {
    /// Request line, headers and body. `{good}` in a header stands for the valid token.
    Http1 { line: String, headers: Vec<String>, body: String },
    /// A request in HTTP/2.
    Http2(Http2),
}

/// A row's request with its token, ready to send.
pub(super) enum Message {
    Http1(Vec<u8>),
    Http2(Http2),
}

/// Refused by the gateway itself, whatever the token.
const ODD: Cell = [400; 3];
/// A public route: passed without an identity.
const PUBLIC: Cell = [200; 3];
/// A route of project 6666.
const ONLY_6666: Cell = [401, 403, 200];
/// A route for every project.
const ANY: Cell = [401, 200, 200];

const ENVOYS: [Kind; 2] = [Kind::Envoy, Kind::EnvoyHttp];

impl Row {
    fn new(name: String, request: Request, cell: Cell) -> Self {
        Self { name, cells: [cell; 5], websocket: false, answered_by_gateway: Vec::new(), request }
    }

    /// `GET target` with these header lines.
    fn get(target: &str, headers: &[&str], cell: Cell) -> Self {
        Self::line(&format!("GET {target} HTTP/1.1"), headers, cell)
    }

    fn line(line: &str, headers: &[&str], cell: Cell) -> Self {
        let shown: Vec<_> =
            std::iter::once(line.trim_end_matches(" HTTP/1.1")).chain(headers.iter().copied()).collect();
        let shown: String = shown.join(" | ").chars().map(|c| if c.is_control() { '?' } else { c }).take(55).collect();
        let headers = headers.iter().map(|header| (*header).to_owned()).collect();
        Self::new(shown, Request::Http1 { line: line.to_owned(), headers, body: String::new() }, cell)
    }

    fn h2(name: &str, request: Http2, cell: Cell) -> Self {
        // The nginx of the tests does not accept HTTP/2.
        Self::new(format!("HTTP/2: {name}"), Request::Http2(request), cell).but(&[Kind::Nginx], ODD)
    }

    fn body(mut self, name: &str, text: &str) -> Self {
        if let Request::Http1 { body, .. } = &mut self.request {
            text.clone_into(body);
        }
        name.clone_into(&mut self.name);
        self
    }

    fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// Sets other statuses for some gateways.
    fn but(mut self, kinds: &[Kind], cell: Cell) -> Self {
        for (each, cell_of_kind) in Kind::ALL.iter().zip(&mut self.cells) {
            if kinds.contains(each) {
                *cell_of_kind = cell;
            }
        }
        self
    }

    /// Returns the request with the caller's token. `{good}` in a header is always replaced by the valid token.
    pub(super) fn message(&self, token: Option<&str>, tokens: &Tokens) -> Message {
        match &self.request {
            Request::Http1 { line, headers, body } => {
                let mut text = format!("{line}\r\nHost: keyward.test\r\n");
                if let Some(token) = token {
                    text.push_str(&format!("X-Api-Key: {token}\r\n"));
                }
                for header in headers {
                    text.push_str(&header.replace("{good}", &tokens.good));
                    text.push_str("\r\n");
                }
                Message::Http1(format!("{text}\r\n{body}").into_bytes())
            }
            Request::Http2(request) => {
                let mut request = request.clone();
                request.headers.extend(token.map(|token| ("x-api-key".to_owned(), token.to_owned())));
                Message::Http2(request)
            }
        }
    }
}

/// Headers of a WebSocket handshake except `upgrade`. The key is [`keyward_tests::recorder::SAMPLE_KEY`].
pub(super) const WEBSOCKET: [&str; 3] =
    ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];

/// Returns the whole table.
pub(super) fn rows() -> Vec<Row> {
    let mut all = upgrades();
    all.extend(connects());
    all.extend(paths());
    all.extend(nominations());
    all.extend(names());
    all.extend(credentials());
    all.extend(trailers());
    all.extend(trailers_in_disguise());
    all.extend(in_http2());
    all
}

/// Every protocol upgrade but WebSocket, on a public route and on a protected one.
fn upgrades() -> Vec<Row> {
    let mut rows = Vec::new();
    for (path, ordinary) in [("/public", PUBLIC), ("/only-6666", ONLY_6666)] {
        for upgrade in
            ["h2c", "H2C", "websocket, h2c", "h2c, websocket", "TLS/1.0", "foo", "websocket/13", "web.socket"]
        {
            let upgrade_line = format!("Upgrade: {upgrade}");
            // Envoy removes an upgrade to h2c before any filter sees it, and answers the request without it (RFC 9110
            // §7.8).
            let envoys = if upgrade.eq_ignore_ascii_case("h2c") { ordinary } else { ODD };
            let headers = [&upgrade_line, "Connection: Upgrade"];
            rows.push(Row::get(path, &headers, ODD).but(&ENVOYS, envoys));
            let headers = [&upgrade_line, "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"];
            rows.push(Row::get(path, &headers, ODD).but(&ENVOYS, envoys));
            // An upgrade that `connection` does not name is invalid: Envoy removes it, the others refuse the request.
            rows.push(Row::get(path, &[&upgrade_line], ODD).but(&ENVOYS, ordinary));
            rows.push(Row::get(path, &[&upgrade_line, "Connection: keep-alive"], ODD).but(&ENVOYS, ordinary));
        }
        // nginx reads only the first of several such lines, and writes its own line for the upstream.
        let first = if path == "/public" { [101; 3] } else { [401, 403, 101] };
        let twice = ["Upgrade: websocket", "Upgrade: h2c", WEBSOCKET[0], WEBSOCKET[1], WEBSOCKET[2]];
        rows.push(Row::get(path, &twice, ODD).but(&[Kind::Nginx], first).websocket());
        rows.push(Row::get(path, &["Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade"], ODD));
        rows.push(Row::get(path, &["Upgrade: h2c", "X-Keyward-Project: 6666"], ODD).but(&ENVOYS, ordinary));
        rows.push(Row::get(path, &["Upgrade: websocket"], ODD).but(&ENVOYS, ordinary));
        rows.push(Row::get(path, &["Connection: Upgrade"], ordinary));
    }
    let websocket = ["Upgrade: websocket", WEBSOCKET[0], WEBSOCKET[1], WEBSOCKET[2]];
    rows.push(Row::get("/only-6666", &websocket, [401, 403, 101]).websocket());
    let other_case = ["Upgrade: WebSocket", "Connection: keep-alive, upgrade", WEBSOCKET[1], WEBSOCKET[2]];
    rows.push(Row::get("/", &other_case, [401, 101, 101]).websocket());
    rows.push(Row::get("/public", &websocket, [101; 3]).websocket());
    let nominating = ["Connection: upgrade, x-keyward-key", "Upgrade: websocket", WEBSOCKET[1], WEBSOCKET[2]];
    rows.push(Row::get("/only-6666", &nominating, ODD));
    rows
}

/// CONNECT, and the extended CONNECT of HTTP/2.
fn connects() -> Vec<Row> {
    let pseudo = |fields: &[(&str, &str)]| {
        let headers = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Http2 { headers, open: true, ..Default::default() }
    };
    let extended = |protocol: &str, path: &str| {
        pseudo(&[
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":path", path),
            (":authority", "keyward.test"),
        ])
    };
    let plain = pseudo(&[(":method", "CONNECT"), (":authority", "keyward.test:80")]);
    // Envoy and Caddy end the stream, because they have not announced support for RFC 8441.
    let ended = |protocol: &str, path: &str| {
        let row = Row::h2(&format!("CONNECT :protocol={protocol} {path}"), extended(protocol, path), ODD);
        row.but(&[Kind::Envoy, Kind::EnvoyHttp, Kind::Caddy], [0; 3])
    };
    vec![
        Row::line("CONNECT keyward.test:80 HTTP/1.1", &[], ODD),
        Row::line("CONNECT /public HTTP/1.1", &[], ODD).but(&[Kind::Nginx], [405; 3]),
        Row::h2("CONNECT", plain, ODD),
        ended("foo", "/public"),
        ended("h2c", "/only-6666"),
        ended("connect-udp", "/public"),
        // HAProxy opens the WebSocket with its own key, which the recorder cannot accept. The request passes and ends
        // with 502.
        ended("websocket", "/only-6666").but(&[Kind::Haproxy], [401, 403, 502]).websocket(),
    ]
}

/// Other spellings of protected paths.
fn paths() -> Vec<Row> {
    let odd = [
        "/only-6666;a=b",
        "/only-6666;a=b/x",
        "/;/only-6666",
        "/;a=b/only-6666",
        "/only-6666%3ba=b",
        "/only-6666%3Ba=b",
        "/only-6666%253ba=b",
        "/public/%2e%2e;/only-6666",
        "/public/.%2e;/only-6666",
        "/public/..%3b/only-6666",
        "/public/%2e%2e%3b/only-6666",
        "/public/..%253b/only-6666",
        "/public/%252e%252e/only-6666",
        "/public/..%252fonly-6666",
        "/public/..%25252fonly-6666",
        "/public/..%2fonly-6666",
        "/public/..%5conly-6666",
        "/public/..%255conly-6666",
        "/public/%00/../only-6666",
        "/only-6666%00",
        "/only-6666%00.css",
        "/only-6666%2500",
        "/only-6666%0a",
        "/only-6666%09",
        "/only-6666%7f",
        "/only-6666.",
        "/only-6666./x",
        "/only-6666..",
        "/only-6666%20",
        "/only-6666%20/x",
        "/public/...%2f",
        "/public/%c0%ae%c0%ae/only-6666",
        "/public/%e0%80%ae%e0%80%ae/only-6666",
        "/public/%f0%80%80%ae/only-6666",
        "/public/%u002e%u002e/only-6666",
        "/public/%2/only-6666",
        "/only%252d6666",
        "/%2536666",
        "/public#/../only-6666",
        "/only-6666#x",
        "http://keyward.test/only-6666;a=b",
    ];
    let mut rows: Vec<_> = odd.into_iter().map(|path| Row::get(path, &[], ODD)).collect();
    // Envoy normalizes these before it chooses a route, and passes the normalized path on. The others refuse them.
    for path in [
        "/public/..;/only-6666",
        "/public/..;a=b/only-6666",
        "/public/.;/../only-6666",
        "/public/x;/../..;/only-6666",
        "/public;/..;/only-6666",
        "/public/..\\only-6666",
        "/public\\..\\only-6666",
        "http://keyward.test/public/..;/only-6666",
        "//only-6666",
        "/public/../only-6666",
        "/public/%2e%2e/only-6666",
        "/public//../../only-6666",
        "/./only-6666",
    ] {
        rows.push(Row::get(path, &[], ODD).but(&ENVOYS, ONLY_6666));
    }
    // These are equivalent to the protected path and may pass. Characters that are no separators may be encoded, and
    // the query belongs to the upstream.
    for path in ["/only%2D6666", "/ONLY-6666", "/only-6666?a=;b%3b..//%2e", "/%6fnly-6666/x"] {
        rows.push(Row::get(path, &[], ONLY_6666));
    }
    rows.push(Row::get("/public/;/../only-6666", &[], ODD).but(&ENVOYS, PUBLIC));
    // A whole URL as the target is meant for proxies. Caddy reads two slashes in it.
    rows.push(Row::get("http://keyward.test/only-6666", &[], ONLY_6666).but(&[Kind::Caddy], ODD));
    // Go's HTTP server answers this itself.
    let mut options = Row::line("OPTIONS * HTTP/1.1", &[], ODD).but(&ENVOYS, [404; 3]).but(&[Kind::Caddy], [200; 3]);
    options.answered_by_gateway.push(Kind::Caddy);
    rows.push(options);
    rows
}

/// Headers that `connection` names, so that the next hop removes them.
fn nominations() -> Vec<Row> {
    let mut rows = Vec::new();
    // Envoy removes the named headers and then `connection`, which can only cost the client its own headers.
    let by_envoy = |nominated: &str| match nominated {
        "host" => ODD,
        "x-api-key" => [401; 3],
        _ => ONLY_6666,
    };
    for nominated in [
        "x-keyward-project, x-keyward-key",
        "X-Keyward-Project",
        "close, x-keyward-key",
        "keep-alive,x-keyward-project",
        "x-api-key",
        "authorization",
        "x-original-uri",
        "content-length",
        "host",
        "x_keyward_project",
    ] {
        let header = format!("Connection: {nominated}");
        rows.push(Row::get("/only-6666", &[&header], ODD).but(&ENVOYS, by_envoy(nominated)));
    }
    // nginx reads only the first of several such lines, and writes its own line for the upstream.
    let twice = ["Connection: close", "Connection: x-keyward-project"];
    rows.push(Row::get("/only-6666", &twice, ODD).but(&[Kind::Envoy, Kind::EnvoyHttp, Kind::Nginx], ONLY_6666));
    for harmless in ["keep-alive", "close", "Keep-Alive, TE", "te", "close, te"] {
        let header = format!("Connection: {harmless}");
        rows.push(Row::get("/only-6666", &[&header, "TE: trailers"], ONLY_6666));
    }
    rows
}

/// Other spellings of the headers that only Keyward may set, with each separator that a name may contain (RFC 9110
/// §5.6.2).
fn names() -> Vec<Row> {
    let mut rows = Vec::new();
    for separator in "!#$%&'*+-.^_`|~".chars() {
        let headers =
            [format!("X{separator}Keyward{separator}Project: 6666"), format!("x-keyward{separator}key: root")];
        for (path, cell) in [("/public", PUBLIC), ("/only-6666", ONLY_6666), ("/", ANY)] {
            rows.push(Row::get(path, &headers.each_ref().map(String::as_str), cell));
        }
    }
    // A space before the colon, and a value continued on the next line (RFC 9112 §5), which most gateways join.
    rows.push(Row::get("/public", &["X-Keyward-Project : 6666"], ODD));
    let folded = Row::get("/public", &["X-Noise: a\r\n X-Keyward-Project: 6666"], PUBLIC);
    rows.push(folded.but(&[Kind::Nginx], ODD));
    for name in [
        "x--keyward-project",
        "x-keyward--project",
        "x-keyward-anything",
        "x-keyward",
        "x_keyward-project",
        "X.KEYWARD_key",
    ] {
        let header = format!("{name}: 6666");
        rows.push(Row::get("/public", &[&header], PUBLIC));
    }
    rows
}

/// Other spellings of the key's header: they neither authenticate nor reach the upstream.
fn credentials() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in [
        "x_api_key",
        "X.Api.Key",
        "x-api_key",
        "x_api-key",
        "x~api~key",
        "x!api-key",
        "x-api.key",
        "x-api*key",
        "x-api`key",
    ] {
        let header = format!("{name}: {{good}}");
        rows.push(Row::get("/only-6666", &[&header], ONLY_6666));
        rows.push(Row::get("/public", &[&header], PUBLIC));
    }
    // Names that resemble `authorization`.
    for name in ["authorization_", "authorization.", "_authorization", "proxy_authorization"] {
        let header = format!("{name}: Bearer {{good}}");
        rows.push(Row::get("/only-6666", &[&header], ONLY_6666));
    }
    rows
}

/// Trailers with names that only Keyward may set.
fn trailers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (path, cell) in [("/public", PUBLIC), ("/only-6666", ONLY_6666)] {
        for name in ["X-Keyward-Project", "x_keyward_project", "x.keyward-key", "x-api-key", "x_api_key"] {
            let line = format!("POST {path} HTTP/1.1");
            for announced in [true, false] {
                let headers: &[&str] = &["Transfer-Encoding: chunked", &format!("Trailer: {name}")];
                let headers = &headers[..if announced { 2 } else { 1 }];
                let shown = format!("POST {path}, trailer {name}{}", if announced { ", announced" } else { "" });
                let body = format!("4\r\nbody\r\n0\r\n{name}: 6666\r\n\r\n");
                rows.push(Row::line(&line, headers, cell).body(&shown, &body));
            }
            for more in [&[][..], &[("trailer", name)], &[("content-length", "4")]] {
                let pseudo =
                    [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "keyward.test")];
                let headers = pseudo.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                let request = Http2 {
                    headers: headers.collect(),
                    body: Some(b"body".to_vec()),
                    trailers: vec![(name.to_ascii_lowercase(), "6666".to_owned())],
                    open: false,
                };
                let shown = more.first().map_or("", |(name, _)| name);
                rows.push(Row::h2(&format!("POST {path}, trailer {name} {shown}"), request, cell));
            }
        }
    }
    rows
}

/// Trailers after a body with two lengths, and after the handshake of a WebSocket.
fn trailers_in_disguise() -> Vec<Row> {
    let body = "4\r\nbody\r\n0\r\nX-Keyward-Project: 6666\r\n\r\n";
    let both = ["Transfer-Encoding: chunked", "Content-Length: 4"];
    let handshake = ["Transfer-Encoding: chunked", "Upgrade: websocket", WEBSOCKET[0], WEBSOCKET[1], WEBSOCKET[2]];
    let public = "POST /public HTTP/1.1";
    let twice_sized = Row::line(public, &both, ODD).but(&[Kind::Caddy, Kind::Haproxy], PUBLIC);
    // HAProxy removes the upgrade from a request with a body. The others pass the handshake, and the body as bytes of
    // the tunnel.
    let chunked_handshake = Row::line(public, &handshake, [101; 3]).but(&[Kind::Haproxy], PUBLIC).websocket();
    vec![
        twice_sized.body("POST /public, chunked and content-length, trailer", body),
        chunked_handshake.body("POST /public, chunked WebSocket, trailer", body),
    ]
}

/// Some of these requests in HTTP/2, for the gateways that accept it.
fn in_http2() -> Vec<Row> {
    let get = |path: &str, fields: &[(&str, &str)]| {
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "keyward.test")];
        let headers = pseudo.iter().chain(fields).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Http2 { headers: headers.collect(), ..Default::default() }
    };
    let mut rows = vec![Row::h2("GET /only-6666", get("/only-6666", &[]), ONLY_6666)];
    for path in ["/only-6666;a=b", "/;/only-6666", "/public/%2e%2e;/only-6666", "/only-6666%00", "/only-6666."] {
        rows.push(Row::h2(&format!("GET {path}"), get(path, &[]), ODD));
    }
    for name in ["x.keyward.project", "x_keyward_project", "x-keyward-project", "x-keyward~key"] {
        rows.push(Row::h2(&format!("GET /public, {name}"), get("/public", &[(name, "6666")]), PUBLIC));
        rows.push(Row::h2(&format!("GET /only-6666, {name}"), get("/only-6666", &[(name, "6666")]), ONLY_6666));
    }
    // These three fields are forbidden in HTTP/2 (RFC 9113 §8.2.2). Envoy and HAProxy end the stream.
    for field in [("connection", "x-keyward-project"), ("upgrade", "h2c"), ("connection", "upgrade")] {
        let row = Row::h2(&format!("GET /only-6666, {} {}", field.0, field.1), get("/only-6666", &[field]), ODD);
        rows.push(row.but(&[Kind::Envoy, Kind::EnvoyHttp, Kind::Haproxy], [0; 3]));
    }
    rows
}
