//! Web pages of other origins: the CORS preflight of the Fetch standard, the request after it, and refusals that the
//! page can read.

use keyward_proto::admin::Key;
use keyward_tests::client::Admin;
use keyward_tests::gateway::{Gateway, Kind, ValidatorAt};
use keyward_tests::keyward::Serve;
use keyward_tests::raw::{Head, exchange};
use keyward_tests::recorder::Recorder;
use keyward_tests::report;

const ORIGIN: &str = "https://shop.example";

async fn send(at: std::net::SocketAddr, line: &str, headers: &[&str]) -> Head {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    exchange(at, format!("{line} HTTP/1.1\r\nHost: keyward.test\r\n{headers}\r\n").as_bytes()).await.unwrap().0
}

/// Returns `true` if a page of [`ORIGIN`] may read the response: it has exactly one `access-control-allow-origin`, for
/// all origins or for this one.
fn readable(head: &Head) -> bool {
    let allowed: Vec<_> = head
        .headers
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("access-control-allow-origin:"))
        .collect();
    matches!(allowed.as_slice(), [_]) && matches!(head.header("access-control-allow-origin"), Some("*" | ORIGIN))
}

/// Returns `true` if the header's list of values contains that word.
fn lists(head: &Head, name: &str, word: &str) -> bool {
    head.header(name).is_some_and(|value| value.split(',').any(|each| each.trim().eq_ignore_ascii_case(word)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_can_use_client_keys_only_on_routes_that_allow_them() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let web = Key { platform: "javascript".to_owned(), ..Default::default() };
    let client = admin.create_key_as("6666", "web", web).await.unwrap().token;
    let origin = format!("Origin: {ORIGIN}");
    let key = format!("X-Api-Key: {client}");
    let preflight = [&origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key"];
    for kind in Kind::ALL {
        let upstream = Recorder::start().await;
        let gateway = Gateway::start(kind, &[ValidatorAt::in_serve(&serve)], upstream.at);
        let at = gateway.at;
        for path in ["/app", "/app/items?page=2", "/APP"] {
            let head = send(at, &format!("OPTIONS {path}"), &preflight).await;
            assert!(matches!(head.status, 200 | 204), "{kind:?} {path}: {head:?}");
            assert!(readable(&head), "{kind:?} {path}: {head:?}");
            assert!(lists(&head, "access-control-allow-methods", "POST"), "{kind:?}: {head:?}");
            for name in ["x-api-key", "authorization", "content-type"] {
                assert!(lists(&head, "access-control-allow-headers", name), "{kind:?}: {head:?}");
            }
        }
        assert!(upstream.take().is_empty(), "{kind:?} must answer preflights without the upstream");
        let head = send(at, "POST /app/items", &[&origin, &key, "Content-Length: 0"]).await;
        assert!(head.status == 200 && readable(&head), "{kind:?}: {head:?}");
        let seen = upstream.take();
        assert_eq!(seen[0].header("x-keyward-key").collect::<Vec<_>>(), ["web"], "{kind:?}");
        for refused in [vec![origin.as_str()], vec![&origin, "X-Api-Key: hunter2"]] {
            let head = send(at, "POST /app/items", &[&refused[..], &["Content-Length: 0"]].concat()).await;
            assert!(head.status == 401 && readable(&head), "the page can read the refusal, {kind:?}: {head:?}");
        }
        // These are not preflights: one has no origin, one has no requested method, and two have another method than
        // OPTIONS.
        for (line, headers) in [
            ("OPTIONS /app", &preflight[1..]),
            ("OPTIONS /app", &preflight[..1]),
            ("GET /app", &preflight[..]),
            ("DELETE /app", &preflight[..]),
        ] {
            assert_eq!(send(at, line, headers).await.status, 401, "{kind:?} {line} {headers:?}");
        }
        // Routes for server keys only.
        for path in ["/", "/only-6666", "/application", "/x/app"] {
            let head = send(at, &format!("OPTIONS {path}"), &preflight).await;
            assert!(head.status == 401 && !readable(&head), "{kind:?} {path}: {head:?}");
            assert_eq!(
                send(at, &format!("POST {path}"), &[&origin, &key, "Content-Length: 0"]).await.status,
                403,
                "{kind:?}"
            );
        }
        // Another spelling of the path does not turn the request into a preflight, or change its route.
        for path in ["/app/..;/only-6666", "/app;/../only-6666", "/app/%2e%2e/only-6666", "/only-6666;/app"] {
            let head = send(at, &format!("OPTIONS {path}"), &preflight).await;
            assert!(matches!(head.status, 400 | 401), "{kind:?} {path}: {head:?}");
        }
        assert!(upstream.take().is_empty(), "{kind:?}");
        report::line(&format!("pages of other origins through {kind:?}: preflight, request and refusals"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_can_read_a_503() {
    let mut serve = Serve::start();
    let validator = ValidatorAt::in_serve(&serve);
    let mut gateways = Vec::new();
    for kind in Kind::ALL {
        let upstream = Recorder::start().await;
        gateways.push((kind, Gateway::start(kind, &[validator], upstream.at), upstream));
    }
    serve.process.kill();
    for (kind, gateway, upstream) in gateways {
        let head = send(gateway.at, "GET /app", &[&format!("Origin: {ORIGIN}"), "X-Api-Key: any"]).await;
        assert!(head.status == 503 && readable(&head), "{kind:?}: {head:?}");
        assert!(upstream.take().is_empty());
    }
}
