//! Requests with a valid key pass every gateway complete and unchanged: WebSocket, bodies, methods, queries.

use keyward_tests::client::Admin;
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::Serve;
use keyward_tests::raw::{echoed, exchange};
use keyward_tests::recorder::{Recorded, Recorder};
use keyward_tests::report;

use super::hostile::{Tokens, tokens};
use super::rows::WEBSOCKET;

struct Site {
    kind: Kind,
    gateway: Gateway,
    upstream: Recorder,
}

impl Site {
    /// Sends one request with a token. Returns the status, and what the upstream saw.
    async fn send(&self, line: &str, headers: &[&str], body: &[u8], token: &str) -> (u16, Vec<Recorded>) {
        let mut bytes = format!("{line} HTTP/1.1\r\nHost: keyward.test\r\nX-Api-Key: {token}\r\n");
        headers.iter().for_each(|header| bytes.extend([*header, "\r\n"]));
        let bytes = [bytes.as_bytes(), b"\r\n", body].concat();
        self.upstream.take();
        let (head, _) = exchange(self.gateway.at, &bytes).await.unwrap();
        (head.status, self.upstream.take())
    }
}

/// Starts every gateway. The nginx has a larger body limit, as an operator would set for uploads.
async fn sites(serve: &Serve) -> Vec<Site> {
    let mut sites = Vec::new();
    for kind in Kind::ALL {
        let upstream = Recorder::start().await;
        let edit = |text: &str| text.replace("location / {\n", "location / {\n client_max_body_size 50m;\n");
        let gateway = Gateway::start_edited(kind, &[ValidatorAt::in_serve(serve)], upstream.at, edit);
        sites.push(Site { kind, gateway, upstream });
    }
    sites
}

async fn started(arguments: &[&str]) -> (Serve, Tokens) {
    let serve = Serve::start_with(arguments);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let tokens = tokens(&admin).await;
    (serve, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_works_through_every_gateway_only_with_a_valid_key() {
    let (serve, tokens) = started(&[]).await;
    for site in sites(&serve).await {
        let kind = site.kind;
        let handshake = |token: Option<&str>| {
            let key = token.map_or(String::new(), |token| format!("X-Api-Key: {token}\r\n"));
            let headers = WEBSOCKET.join("\r\n");
            format!("GET /only-6666/ws HTTP/1.1\r\nHost: keyward.test\r\n{key}Upgrade: websocket\r\n{headers}\r\n\r\n")
        };
        let (head, mut stream) = exchange(site.gateway.at, handshake(Some(&tokens.good)).as_bytes()).await.unwrap();
        assert_eq!(head.status, 101, "{kind:?}: {head:?}");
        let frames: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for part in [&b"\x81\x85mask"[..], &frames] {
            assert_eq!(echoed(&mut stream, part).await.unwrap(), part, "{kind:?}");
        }
        let seen = site.upstream.take();
        let values = |name| seen[0].header(name).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            (values("x-keyward-project"), values("x-keyward-key")),
            (vec!["6666".to_owned()], vec!["server_prod".to_owned()])
        );
        assert!(values("x-api-key").is_empty(), "{kind:?}");
        for (token, status) in [(None, 401), (Some("hunter2"), 401), (Some(tokens.foreign.as_str()), 403)] {
            let (head, _) = exchange(site.gateway.at, handshake(token).as_bytes()).await.unwrap();
            assert_eq!(head.status, status, "{kind:?}");
        }
        assert!(site.upstream.take().is_empty(), "{kind:?}");
        report::line(&format!("WebSocket through {kind:?}: 101, {} bytes there and back; 401, 401, 403", frames.len()));
    }
}

fn chunked(size: usize) -> Vec<u8> {
    let mut body = format!("{size:x}\r\n").into_bytes();
    body.resize(body.len() + size, b'x');
    body.extend(b"\r\n0\r\n\r\n");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_methods_of_every_kind_pass_every_gateway_unchanged() {
    const MIB: usize = 1024 * 1024;
    let (serve, tokens) = started(&[]).await;
    let mut wrong = Vec::new();
    for site in sites(&serve).await {
        let kind = site.kind;
        let mut check = |what: String, (status, seen): (u16, Vec<Recorded>), wanted: u16, size: usize| {
            let arrived = seen.first().map(|request| request.body);
            report::line(&format!("{kind:?}: {what}: {status}, upstream read {arrived:?} bytes"));
            let whole = if wanted == 200 { Some(size as u64) } else { None };
            if status != wanted || arrived != whole {
                wrong.push(format!("{kind:?}, {what}: {status} and {arrived:?} instead of {wanted} and {whole:?}"));
            }
        };
        for size in [0, 10, 2 * MIB] {
            let length = format!("Content-Length: {size}");
            for expect in ["Accept: */*", "Expect: 100-continue"] {
                let answer = site.send("POST /", &[&length, expect], &vec![b'x'; size], &tokens.good).await;
                check(format!("{size} bytes, {expect}"), answer, 200, size);
            }
        }
        for (size, wanted) in [(10, 200), (8_000, 200), (2 * MIB, if kind == Kind::Haproxy { 411 } else { 200 })] {
            let answer = site.send("POST /", &["Transfer-Encoding: chunked"], &chunked(size), &tokens.good).await;
            check(format!("{size} bytes, chunked"), answer, wanted, size);
        }
        for method in ["HEAD", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            let answer = site.send(&format!("{method} /"), &[], b"", &tokens.good).await;
            let kept = answer.1.first().is_some_and(|request| request.line == format!("{method} / HTTP/1.1"));
            check(format!("{method}, {}", if kept { "kept" } else { "changed" }), answer, 200, 0);
            assert!(kept, "{kind:?} {method}");
        }
        let cookie = format!("Cookie: a={}", "x".repeat(6_000));
        check("a cookie of 6,000 bytes".to_owned(), site.send("GET /", &[&cookie], b"", &tokens.good).await, 200, 0);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_passes_unchanged_except_for_a_token_that_envoy_removes() {
    let (serve, tokens) = started(&["--query-parameter", "key"]).await;
    let good = &tokens.good;
    let signed = "z=1&a=%2Fb%7e+c&Signature=x%2By%3D&&flag&empty=&a=2&utf8=%E2%9C%93";
    for site in sites(&serve).await {
        let kind = site.kind;
        let (status, seen) = site.send(&format!("GET /only-6666?{signed}"), &[], b"", good).await;
        assert_eq!(
            (status, seen[0].target()),
            (200, format!("/only-6666?{signed}").as_str()),
            "{kind:?}, key in a header"
        );
        let (before, after) = signed.split_at(signed.find("&Signature").unwrap());
        let queries = [
            (format!("{before}&key={good}{after}"), format!("?{signed}")),
            (format!("key={good}&{signed}"), format!("?{signed}")),
            (format!("{signed}&key={good}"), format!("?{signed}")),
            (format!("key={good}"), String::new()),
        ];
        for (query, rest) in queries {
            // The token is also in a header, so that every gateway accepts the request.
            let (status, seen) = site.send(&format!("GET /only-6666?{query}"), &[], b"", good).await;
            // Only Envoy by gRPC can remove the token from the query.
            let rest = if kind == Kind::Envoy { rest } else { format!("?{query}") };
            assert_eq!((status, seen[0].target()), (200, format!("/only-6666{rest}").as_str()), "{kind:?}");
        }
        if kind == Kind::Envoy {
            let bytes = format!("GET /only-6666?key={good}&{signed} HTTP/1.1\r\nHost: keyward.test\r\n\r\n");
            assert_eq!(exchange(site.gateway.at, bytes.as_bytes()).await.unwrap().0.status, 200);
            assert_eq!(site.upstream.take()[0].target(), format!("/only-6666?{signed}"), "key in the query alone");
            let bytes = bytes.replace(good, &tokens.foreign);
            assert_eq!(exchange(site.gateway.at, bytes.as_bytes()).await.unwrap().0.status, 403);
        }
    }
}
