//! The SDK setup grid.

use std::process::Command;

use keyward_proto::admin::sdk::State;
use keyward_proto::admin::{ListSdksRequest, Role};
use keyward_tests::client::{Admin, on_platform, on_project, reason};
use keyward_tests::keyward::{Serve, command};
use keyward_tests::process::output_of;

/// Runs a snippet with the token in its environment.
fn paste(snippet: &str, token: &str) -> String {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", snippet]).env("API_TOKEN", token).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_curl_snippet_runs_as_pasted() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let token = root.create_key("6666", "a").await.unwrap().token;
    let shown = serve.operator(&["sdks", "show", "http"]).output().unwrap();
    let snippet = String::from_utf8(shown.stdout).unwrap();
    assert!(snippet.contains(&format!("http://{}/auth", serve.hook)), "{snippet}");
    assert!(paste(&snippet, &token).starts_with("HTTP/1.1 200 OK"));
    root.deactivate("6666", "a").await.unwrap();
    assert!(paste(&snippet, &token).starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn the_grid_has_two_ready_cards_and_four_coming_soon() {
    let serve = Serve::start_with(&["--public-api-url", "https://api.example.com/v1/ping"]);
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let viewer = root.create_member("viewer", &[on_project(Role::Viewer, "6666")]).await.unwrap();
    let viewer = Admin::connect(serve.admin, &viewer).await;
    let sdks = viewer.sdks.clone().list_sdks(ListSdksRequest {}).await.unwrap().into_inner().sdks;
    let cards: Vec<_> = sdks.iter().map(|sdk| (sdk.name.as_str(), sdk.state(), sdk.platform.as_str())).collect();
    let expected = [
        ("sdks/go", State::Ready, "server"),
        ("sdks/http", State::Ready, "server"),
        ("sdks/android", State::ComingSoon, "android"),
        ("sdks/ios", State::ComingSoon, "ios"),
        ("sdks/javascript", State::ComingSoon, "javascript"),
        ("sdks/cpp", State::ComingSoon, "server"),
    ];
    assert_eq!(cards, expected);
    for sdk in &sdks {
        assert_eq!(sdk.snippets.is_empty(), sdk.state() == State::ComingSoon);
        assert!(sdk.snippets.iter().all(|snippet| snippet.text.contains("https://api.example.com/v1/ping")));
    }
    let edge = root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap();
    let edge = Admin::connect(serve.admin, &edge).await;
    assert_eq!(reason(&edge.sdks.clone().list_sdks(ListSdksRequest {}).await.unwrap_err()), "PERMISSION_DENIED");
}

#[test]
fn a_public_url_that_would_break_a_snippet_is_refused_at_the_start() {
    let output = command("keyward").args(["serve", "--public-api-url", "http://a/$(id)"]).output().unwrap();
    assert!(!output.status.success());
    assert!(output_of(&output).contains("the public API's URL is http or https"), "{}", output_of(&output));
}
