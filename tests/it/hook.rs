//! The HTTP hook.

use hyper::Method;
use keyward_proto::admin::Key;
use keyward_tests::client::Admin;
use keyward_tests::keyward::Serve;
use keyward_tests::web::{Answer, get, request};

const MISSING: &str = "Bearer realm=\"keyward\"";
const INVALID: &str = "Bearer realm=\"keyward\", error=\"invalid_token\"";

fn challenge(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.headers.get("www-authenticate").map_or("", String::as_str))
}

#[tokio::test]
async fn the_hook_lets_one_good_token_through_and_tells_strangers_nothing() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let good = admin.create_key("6666", "server_prod").await.unwrap().token;
    let other = admin.create_key("6666", "other").await.unwrap().token;
    let dead = admin.create_key("6666", "dead").await.unwrap().token;
    admin.deactivate("6666", "dead").await.unwrap();
    let bearer = |token: &str| format!("Bearer {token}");
    let auth = |headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        get(serve.hook, "/auth", &headers).await
    };

    for header in
        [("authorization", bearer(&good)), ("x-api-key", good.clone()), ("authorization", format!("bearer {good}"))]
    {
        let answer = auth(vec![header]).await;
        assert_eq!(answer.status, 200);
        assert_eq!((&*answer.headers["x-keyward-project"], &*answer.headers["x-keyward-key"]), ("6666", "server_prod"));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
        assert_eq!(request(method, serve.hook, "/auth", &[("x-api-key", &good)]).await.status, 200);
    }
    assert_eq!(auth(vec![("x-api-key", good.clone()), ("authorization", bearer(&good))]).await.status, 200);

    for headers in [vec![], vec![("authorization", "Basic dTpw".to_owned())]] {
        assert_eq!(challenge(&auth(headers).await), (401, MISSING));
    }
    let mut bodies = Vec::new();
    for headers in [
        vec![("x-api-key", "hunter2".to_owned())],
        vec![("x-api-key", String::new())],
        vec![("x-api-key", dead.clone())],
        vec![("x-api-key", good.clone()), ("x-api-key", other.clone())],
        vec![("x-api-key", good.clone()), ("authorization", bearer(&other))],
        vec![("x-api-key", format!("{good},{other}"))],
        vec![("authorization", format!("Basic x,Bearer {good}"))],
        vec![("x-api-key", "k".repeat(5_000))],
    ] {
        let answer = auth(headers.clone()).await;
        assert_eq!(challenge(&answer), (401, INVALID), "{headers:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(!answer.headers.contains_key("x-keyward-key"));
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "a stranger cannot tell why");
}

#[tokio::test]
async fn a_route_names_its_project_and_a_misspelt_setting_lets_nobody_in() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let good = admin.create_key("6666", "a").await.unwrap().token;
    let web = Key { platform: "javascript".to_owned(), ..Default::default() };
    let client = admin.create_key_as("6666", "web", web).await.unwrap().token;
    for (path, token, status) in [
        ("/auth?project=6666", &good, 200),
        ("/auth?project=7777", &good, 403),
        ("/auth", &client, 403),
        ("/auth?allow_client_keys=true", &client, 200),
        ("/auth?project=6666&allow_client_keys=true", &client, 200),
        ("/auth?allow_client_keys=false", &client, 403),
        ("/auth?projcet=6666", &good, 500),
        ("/auth?allow_client_keys=yes", &good, 500),
        ("/auth?project=a-b", &good, 500),
        ("/other", &good, 404),
    ] {
        let answer = get(serve.hook, path, &[("x-api-key", token)]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn listeners_can_be_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hook.sock");
    let serve = Serve::start_with(&["--hook-listen", &format!("unix:{}", socket.display())]);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::builder().uri("/auth").header("host", "keyward").header("x-api-key", &token);
    let body = http_body_util::Empty::<hyper::body::Bytes>::new();
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
}
