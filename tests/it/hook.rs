//! The HTTP hook.

use hyper::Method;
use keyward_proto::admin::Key;
use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use keyward_proto::validate::{ValidateTokenRequest, Verdict};
use keyward_tests::client::Admin;
use keyward_tests::keyward::Serve;
use keyward_tests::web::{Answer, get, request};

const MISSING: &str = "Bearer realm=\"keyward\"";
const INVALID: &str = "Bearer realm=\"keyward\", error=\"invalid_token\"";

fn challenge(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.headers.get("www-authenticate").map_or("", String::as_str))
}

#[tokio::test]
async fn the_hook_accepts_exactly_one_valid_token_and_does_not_reveal_why_it_refuses() {
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
    assert_eq!(bodies.len(), 1, "the response does not reveal why the token was refused");
}

#[tokio::test]
async fn a_route_sets_its_project_and_an_unknown_setting_refuses_every_request() {
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
    let (socket, grpc) = (dir.path().join("hook.sock"), dir.path().join("grpc.sock"));
    let listen = [&socket, &grpc].map(|path| format!("unix:{}", path.display()));
    let serve = Serve::start_with(&["--hook-listen", &listen[0], "--validator-listen", &listen[1]]);
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
    let mut client = ValidateServiceClient::connect(format!("unix://{}", grpc.display())).await.unwrap();
    let answer = client.validate_token(ValidateTokenRequest { token, ..Default::default() }).await.unwrap();
    assert_eq!(answer.into_inner().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn settings_in_the_first_path_segment_apply_to_every_path_below_it() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let mine = admin.create_project("6666").await.unwrap().default_token;
    let other = admin.create_project("7777").await.unwrap().default_token;
    for below in ["", "/", "/v1/items?page=2", "/?project=7777", "/;project=7777", "/../auth;project=7777/x"] {
        let path = format!("/auth;project=6666{below}");
        assert_eq!(get(serve.hook, &path, &[("x-api-key", &mine)]).await.status, 200, "{path}");
        assert_eq!(get(serve.hook, &path, &[("x-api-key", &other)]).await.status, 403, "{path}");
        let path = format!("/auth{below}");
        assert_eq!(get(serve.hook, &path, &[("x-api-key", &other)]).await.status, 200, "{path}");
    }
    for wrong in
        ["/auth;projcet=6666/", "/auth;project=6666;project=7777/", "/auth;project=6666?project=6666", "/auth?mode=x"]
    {
        assert_eq!(get(serve.hook, wrong, &[("x-api-key", &mine)]).await.status, 500, "{wrong}");
    }
}

#[tokio::test]
async fn the_hook_names_the_headers_that_carried_the_token_for_removal() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let removed = |headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        get(serve.hook, "/auth/x", &headers).await.headers.remove("x-envoy-auth-headers-to-remove")
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(removed(vec![("authorization", bearer)]).await.as_deref(), Some("x-api-key,authorization"));
    let basic = vec![("x-api-key", token), ("authorization", "Basic dTpw".to_owned())];
    assert_eq!(removed(basic).await.as_deref(), Some("x-api-key"));
    assert_eq!(removed(vec![("x-api-key", "hunter2".to_owned())]).await, None);
}

#[tokio::test]
async fn in_nginx_mode_every_status_is_one_that_nginx_accepts_and_a_header_has_the_real_one() {
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let validator = serve.spawn_validator("sidecar");
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let good = admin.create_project("6666").await.unwrap().default_token;
    let request = |path: &'static str, token: String| async move {
        let answer = get(validator.hook, path, &[("x-api-key", &token)]).await;
        (answer.status, answer.headers["x-keyward-status"].clone())
    };
    let path = "/auth?mode=nginx";
    assert_eq!(request(path, good.clone()).await, (200, "200".to_owned()));
    assert_eq!(request(path, "hunter2".to_owned()).await, (401, "401".to_owned()));
    assert_eq!(request("/auth?mode=nginx&project=7777", good.clone()).await, (403, "403".to_owned()));
    serve.process.kill();
    while request(path, good.clone()).await.0 == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(request(path, good).await, (403, "503".to_owned()));
}

#[tokio::test]
async fn token_sources_have_the_names_that_the_operator_configured() {
    let arguments = ["--bearer-header", "X-Token", "--key-header", "X-Key", "--query-parameter", "key"];
    let serve = Serve::start_with(&arguments);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let good = admin.create_project("6666").await.unwrap().default_token;
    let bearer = format!("Bearer {good}");
    for headers in [("x-token", &bearer), ("x-key", &good)] {
        assert_eq!(get(serve.hook, "/auth", &[(headers.0, headers.1)]).await.status, 200);
    }
    for headers in [("authorization", &bearer), ("x-api-key", &good)] {
        assert_eq!(get(serve.hook, "/auth", &[(headers.0, headers.1)]).await.status, 401);
    }
    // A query parameter of the client's request: below the first segment, or in the header with which a gateway passes
    // the original URI.
    let query = format!("/v1?page=2&key={good}");
    assert_eq!(get(serve.hook, &format!("/auth{query}"), &[]).await.status, 200);
    for name in ["x-original-uri", "x-forwarded-uri"] {
        assert_eq!(get(serve.hook, "/auth", &[(name, &query)]).await.status, 200, "{name}");
        assert_eq!(get(serve.hook, "/auth", &[(name, &query), ("x-key", "hunter2")]).await.status, 401, "{name}");
    }
    for wrong in [["--bearer-header", "a b"], ["--key-header", "authorization"], ["--query-parameter", "a=b"]] {
        let dir = tempfile::tempdir().unwrap();
        let mut serve = keyward_tests::keyward::command("keyward");
        let output = serve.arg("serve").arg("--data-dir").arg(dir.path()).args(wrong).output().unwrap();
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("must"), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_request_with_400_headers_is_validated() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let names: Vec<_> = (0..400).map(|n| format!("x-noise-{n}")).collect();
    let mut headers: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    assert_eq!(get(serve.hook, "/auth", &headers).await.status, 401);
    headers.push(("x-api-key", &token));
    assert_eq!(get(serve.hook, "/auth", &headers).await.status, 200);
}
