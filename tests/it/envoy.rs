//! Real Envoy, with the configuration that the docs show, in front of a real upstream.

use keyward_tests::client::Admin;
use keyward_tests::envoy::Envoy;
use keyward_tests::keyward::Serve;
use keyward_tests::upstream::Upstream;
use keyward_tests::web::get;
use serde_json::Value;

/// The headers that reached the upstream.
fn echoed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| panic!("not the upstream's answer: {body}"))
}

#[tokio::test]
async fn a_gateway_lets_good_tokens_through_and_keeps_them_from_the_upstream() {
    let serve = Serve::start();
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(serve.validator, upstream.at);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let good = admin.create_key("6666", "server_prod").await.unwrap().token;
    let other = admin.create_key("6666", "other").await.unwrap().token;
    let bearer = format!("Bearer {good}");

    let refused: &[&[(&str, &str)]] = &[
        &[],
        &[("x-api-key", "hunter2")],
        &[("authorization", "Bearer hunter2")],
        &[("x-api-key", &good), ("x-api-key", &other)],
        &[("x-api-key", &other), ("authorization", &bearer)],
        &[("authorization", &bearer), ("authorization", "Bearer hunter2")],
        &[("authorization", "Basic dTpw"), ("authorization", &bearer)],
    ];
    for headers in refused {
        let answer = get(envoy.at, "/", headers).await;
        assert_eq!(answer.status, 401, "{headers:?}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.headers["www-authenticate"].starts_with("Bearer realm=\"keyward\""));
    }
    assert_eq!(upstream.requests(), 0, "a refused request reached the upstream");

    let credentials: &[&[(&str, &str)]] =
        &[&[("authorization", &bearer)], &[("x-api-key", &good)], &[("x-api-key", &good), ("authorization", &bearer)]];
    for headers in credentials {
        let mut headers = headers.to_vec();
        headers.extend([("x-keyward-project", "9999"), ("X-Keyward-Key", "root"), ("x-keyward-anything", "1")]);
        let answer = get(envoy.at, "/", &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = echoed(&answer.body);
        assert_eq!((&seen["x-keyward-project"], &seen["x-keyward-key"]), (&"6666".into(), &"server_prod".into()));
        assert!(seen["authorization"].is_null() && seen["x-api-key"].is_null(), "{seen}");
        assert!(seen["x-keyward-anything"].is_null(), "{seen}");
        assert!(!answer.body.contains(&good));
    }
    let seen =
        echoed(&get(envoy.at, "/public", &[("x-keyward-project", "9999"), ("x-keyward-key", "root")]).await.body);
    assert!(seen["x-keyward-project"].is_null() && seen["x-keyward-key"].is_null(), "{seen}");
    // The upstream's own basic authentication is not ours to take away.
    let basic = get(envoy.at, "/", &[("x-api-key", &good), ("authorization", "Basic dTpw")]).await;
    assert_eq!(echoed(&basic.body)["authorization"], "Basic dTpw");
}

#[tokio::test]
async fn the_first_request_after_deactivate_returned_is_refused() {
    const TIMES: usize = 50;
    let serve = Serve::start();
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(serve.validator, upstream.at);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    for n in 0..TIMES {
        let name = format!("k{n}");
        let token = admin.create_key("6666", &name).await.unwrap().token;
        let headers = [("x-api-key", token.as_str())];
        assert_eq!(get(envoy.at, "/", &headers).await.status, 200);
        admin.deactivate("6666", &name).await.unwrap();
        assert_eq!(get(envoy.at, "/", &headers).await.status, 401);
    }
    assert_eq!(upstream.requests(), TIMES);
}

#[tokio::test]
async fn a_route_of_one_project_takes_no_other_projects_keys_however_its_path_is_written() {
    let serve = Serve::start();
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(serve.validator, upstream.at);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let mine = admin.create_project("6666").await.unwrap().default_token;
    let other = admin.create_project("7777").await.unwrap().default_token;
    for path in ["/only-6666", "//only-6666", "/x/../only-6666", "/only%2D6666", "/./only-6666/y"] {
        assert_eq!(get(envoy.at, path, &[("x-api-key", &mine)]).await.status, 200, "{path}");
        assert_eq!(get(envoy.at, path, &[("x-api-key", &other)]).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn without_a_validator_nothing_gets_through() {
    let mut serve = Serve::start();
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(serve.validator, upstream.at);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    assert_eq!(get(envoy.at, "/", &[("x-api-key", &token)]).await.status, 200);
    serve.process.kill();
    assert_eq!(get(envoy.at, "/", &[("x-api-key", &token)]).await.status, 503);
    assert_eq!(upstream.requests(), 1);
}
