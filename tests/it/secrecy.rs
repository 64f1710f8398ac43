//! Tokens and credentials do not appear in logs, output or files.

use keyward_proto::admin::{CreateKeyRequest, DeactivateKeyRequest};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, request_id};
use keyward_tests::keyward::{Serve, Validator};
use keyward_tests::web;

/// Length of the shortest piece of a secret that must not appear.
const WINDOW: usize = 12;

/// Returns `true` if a piece of the secret's random part appears in the bytes.
fn contains_secret(bytes: &[u8], secret: &str) -> bool {
    let random = secret.split_once('_').unwrap().1.as_bytes();
    let pieces: std::collections::HashSet<&[u8]> = random.windows(WINDOW).collect();
    bytes.windows(WINDOW).any(|window| pieces.contains(window))
}

#[tokio::test]
async fn no_token_appears_in_a_trace_log_or_in_the_database() {
    let serve = Serve::start_with(&["--log", "trace"]);
    let root = serve.root();
    let admin = Admin::connect(serve.admin, &root).await;
    let edge = serve.spawn_validator_with("edge", &["--log", "trace"]);
    let default_token = admin.create_project("6666").await.unwrap().default_token;
    let request = CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: "a".to_owned(),
        key: None,
        request_id: request_id(),
    };
    let token = admin.keys.clone().create_key(request.clone()).await.unwrap().into_inner().token;
    assert_eq!(admin.keys.clone().create_key(request).await.unwrap().into_inner().token, token);
    let credential = admin.create_member("m", &[]).await.unwrap();
    // Every API, with valid, invalid and misplaced secrets.
    let clients = [ValidatorClient::connect(serve.validator).await, ValidatorClient::connect(edge.grpc).await];
    for client in &clients {
        assert_eq!(client.verdict(&token).await, Verdict::Valid);
        assert_eq!(client.verdict(&token[..token.len() - 1]).await, Verdict::Malformed);
        assert_eq!(client.verdict(&credential).await, Verdict::Unknown);
    }
    for hook in [serve.hook, edge.hook] {
        assert_eq!(web::get(hook, "/auth", &[("x-api-key", &token)]).await.status, 200);
        assert_eq!(web::get(hook, &format!("/auth?key={token}"), &[("x-api-key", &token)]).await.status, 500);
        assert_eq!(web::get(hook, &format!("/{token}"), &[]).await.status, 404);
    }
    let impostor = Admin::connect(serve.admin, &token).await;
    impostor.list("6666", 0).await.unwrap_err();
    let misplaced = DeactivateKeyRequest { name: token.clone(), etag: token.clone() };
    let status = admin.keys.clone().deactivate_key(misplaced).await.unwrap_err();
    assert!(!contains_secret(format!("{status:?}").as_bytes(), &token), "{status:?}");
    admin.deactivate("6666", "a").await.unwrap();

    let mut seen = Vec::new();
    for (what, bytes) in written(&serve, &edge) {
        for (name, secret) in
            [("token", &token), ("default token", &default_token), ("credential", &credential), ("root", &root)]
        {
            if contains_secret(&bytes, secret) {
                seen.push(format!("{name} in {what}"));
            }
        }
    }
    assert!(seen.is_empty(), "{seen:?}");
}

/// Returns everything that the processes have written: logs, output, and all files of the data directory except the
/// root credential.
fn written(serve: &Serve, edge: &Validator) -> Vec<(String, Vec<u8>)> {
    let mut written = vec![
        ("serve's log".to_owned(), serve.process.log().into_bytes()),
        ("serve's output".to_owned(), serve.process.out().into_bytes()),
        ("the validator's log".to_owned(), edge.process.log().into_bytes()),
        ("the validator's output".to_owned(), edge.process.out().into_bytes()),
    ];
    assert!(written[0].1.windows(5).any(|w| w == b"TRACE") && written[2].1.windows(5).any(|w| w == b"TRACE"));
    for file in std::fs::read_dir(serve.data_dir()).unwrap() {
        let path = file.unwrap().path();
        if path != serve.credential_file() {
            written.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    assert!(written.iter().any(|(what, bytes)| what.ends_with("keyward.db-wal") && !bytes.is_empty()));
    written
}
