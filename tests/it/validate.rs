//! The verdicts of ValidateToken, and its batch and stream forms.

use std::time::{Duration, SystemTime};

use keyward_proto::admin::Key;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::validate_token_request::Consistency;
use keyward_proto::validate::{StreamValidateTokensRequest, ValidateTokenRequest, ValidateTokenResponse, Verdict};
use keyward_tests::client::{Admin, ValidatorClient, reason, violation};
use keyward_tests::keyward::Serve;
use keyward_token::{Token, TokenFormat, TokenKind};
use tonic::Code;

/// Returns the token with one character replaced.
fn misspelt(token: &str) -> String {
    let mut text = token.to_owned();
    let last = if text.ends_with('0') { '1' } else { '0' };
    text.pop();
    text.push(last);
    text
}

#[tokio::test]
async fn every_verdict_is_returned_for_its_cause() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let client = ValidatorClient::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    admin.create_project("7777").await.unwrap();
    let good = admin.create_key("6666", "good").await.unwrap().token;
    let ios = Key { platform: "ios".to_owned(), ..Default::default() };
    let client_key = admin.create_key_as("6666", "app", ios).await.unwrap().token;
    assert!(client_key.starts_with("kwc_"));
    let validate = |token: &str, project: &str, allow_client_keys| {
        let request = ValidateTokenRequest {
            token: token.to_owned(),
            project: project.to_owned(),
            allow_client_keys,
            ..Default::default()
        };
        let client = client.clone();
        async move { client.validate_request(request).await.unwrap() }
    };

    assert_eq!(validate(&good, "", false).await.verdict(), Verdict::Valid);
    assert_eq!(validate(&good, "6666", false).await.verdict(), Verdict::Valid);
    assert_eq!(validate(&good, "projects/6666", false).await.verdict(), Verdict::Valid);
    let wrong = validate(&good, "7777", false).await;
    assert_eq!((wrong.verdict(), wrong.project.as_str()), (Verdict::WrongProject, "6666"));
    assert_eq!(validate(&client_key, "6666", false).await.verdict(), Verdict::ClientKeyNotAllowed);
    let allowed = validate(&client_key, "6666", true).await;
    assert_eq!((allowed.verdict(), allowed.platform.as_str()), (Verdict::Valid, "ios"));

    let foreign = Token::generate(&TokenFormat::default(), TokenKind::Server).unwrap();
    let unknown = validate(foreign.expose(), "", false).await;
    assert_eq!((unknown.verdict(), unknown.key.as_str()), (Verdict::Unknown, ""));
    let long = "k".repeat(10_000);
    for malformed in ["", "hunter2", &misspelt(&good), &good[1..], &format!("{good} "), long.as_str(), "ключ"] {
        assert_eq!(validate(malformed, "", false).await.verdict(), Verdict::Malformed, "{malformed:?}");
    }
    // A member's credential is a well-formed token, but no key has it.
    assert_eq!(validate(&serve.root(), "", false).await.verdict(), Verdict::Unknown);
}

#[tokio::test]
async fn a_key_expires_at_its_expiry_time() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let client = ValidatorClient::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    let soon = SystemTime::now() + Duration::from_millis(1_500);
    let key = Key { expire_time: Some(soon.into()), ..Default::default() };
    let token = admin.create_key_as("6666", "short", key).await.unwrap().token;
    assert_eq!(client.verdict(&token).await, Verdict::Valid);
    while client.verdict(&token).await == Verdict::Valid {
        assert!(SystemTime::now() < soon + Duration::from_secs(1), "still valid after its expiry");
    }
    assert_eq!(client.verdict(&token).await, Verdict::Expired);
    let past = Key { expire_time: Some(SystemTime::UNIX_EPOCH.into()), ..Default::default() };
    let status = admin.create_key_as("6666", "late", past).await.unwrap_err();
    assert_eq!(violation(&status), ("key.expire_time".to_owned(), "must be in the future".to_owned()));
}

#[tokio::test]
async fn at_least_consistency_is_served_from_that_revision_or_refused() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let client = ValidatorClient::connect(serve.validator).await;
    let created = admin.create_project("6666").await.unwrap();
    let revision = created.receipt.unwrap().revision;
    let validate = |consistency: Consistency, min_revision| {
        let token = created.default_token.clone();
        client.validate_request(ValidateTokenRequest {
            token,
            consistency: consistency.into(),
            min_revision,
            ..Default::default()
        })
    };
    assert_eq!(validate(Consistency::AtLeast, revision).await.unwrap().revision, revision);
    let status = validate(Consistency::AtLeast, revision + 1).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "REVISION_NOT_REACHED"));
    for (consistency, min_revision) in [(Consistency::AtLeast, 0), (Consistency::AtLeast, -1), (Consistency::Lease, 1)]
    {
        let status = validate(consistency, min_revision).await.unwrap_err();
        assert_eq!(violation(&status).0, "min_revision");
    }
}

#[tokio::test]
async fn an_invalid_project_is_refused_and_never_ignored() {
    let serve = Serve::start();
    let client = ValidatorClient::connect(serve.validator).await;
    for project in ["a b", "projects/", "projects/6666/keys/a", "ключ"] {
        let request = ValidateTokenRequest { project: project.to_owned(), ..Default::default() };
        let status = client.validate_request(request).await.unwrap_err();
        assert_eq!((status.code(), violation(&status).0.as_str()), (Code::InvalidArgument, "project"), "{project}");
    }
}

fn request_for(token: &str) -> ValidateTokenRequest {
    ValidateTokenRequest { token: token.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_one_invalid_request_fails_the_whole_batch() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let client = ValidatorClient::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    let good = admin.create_key("6666", "good").await.unwrap().token;
    let dead = admin.create_key("6666", "dead").await.unwrap().token;
    admin.deactivate("6666", "dead").await.unwrap();
    let elsewhere = ValidateTokenRequest { project: "7777".to_owned(), ..request_for(&good) };

    let batch = vec![request_for(&good), request_for("hunter2"), request_for(&dead), elsewhere, request_for(&good)];
    let verdicts: Vec<_> = client.batch(batch).await.unwrap().iter().map(ValidateTokenResponse::verdict).collect();
    let wanted = [Verdict::Valid, Verdict::Malformed, Verdict::Deactivated, Verdict::WrongProject, Verdict::Valid];
    assert_eq!(verdicts, wanted);
    assert_eq!(client.batch(Vec::new()).await.unwrap(), []);
    let most =
        client.batch(vec![ValidateTokenRequest { project: "6".repeat(32), ..request_for(&good) }; 500]).await.unwrap();
    assert!(most.len() == 500 && most.iter().all(|answer| answer.verdict() == Verdict::WrongProject));

    let status = client.batch(vec![request_for(&good); 501]).await.unwrap_err();
    assert_eq!(violation(&status), ("requests".to_owned(), "must be at most 500".to_owned()));
    let bad = ValidateTokenRequest { project: "a b".to_owned(), ..request_for(&good) };
    let status = client.batch(vec![request_for(&good), bad]).await.unwrap_err();
    assert_eq!((status.code(), violation(&status).0.as_str()), (Code::InvalidArgument, "requests[1].project"));
}

#[tokio::test]
async fn a_stream_answers_in_order_and_ends_when_the_validator_shuts_down() {
    const MANY: u64 = 5_000;
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let client = ValidatorClient::connect(serve.validator).await;
    let good = admin.create_project("6666").await.unwrap().default_token;
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    let mut answers = client.stream(requests).await.unwrap();
    let one = |id: u64, request| StreamValidateTokensRequest { id, request };
    let sending = {
        let (sender, good) = (sender.clone(), good.clone());
        tokio::spawn(async move {
            for id in 0..MANY {
                let token = if id % 3 == 0 { "hunter2" } else { &good };
                sender.send(one(id, Some(request_for(token)))).await.unwrap();
            }
        })
    };
    for id in 0..MANY {
        let answer = answers.message().await.unwrap().unwrap();
        let Some(Outcome::Response(response)) = answer.outcome else { panic!("{answer:?}") };
        let wanted = if id % 3 == 0 { Verdict::Malformed } else { Verdict::Valid };
        assert_eq!((answer.id, response.verdict()), (id, wanted));
    }
    sending.await.unwrap();

    // An invalid request gets an error, and the stream continues.
    let bad = ValidateTokenRequest { project: "a b".to_owned(), ..request_for(&good) };
    for (request, id) in [(Some(bad), 7), (None, 8)] {
        sender.send(one(id, request)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(Outcome::Error(error)) = answer.outcome else { panic!("{answer:?}") };
        assert_eq!((answer.id, error.code, error.reason.as_str()), (id, 3, "FIELD_INVALID"));
    }
    // A deactivation applies to the very next request on the stream.
    let created = admin.create_key("6666", "short").await.unwrap().token;
    admin.deactivate("6666", "short").await.unwrap();
    sender.send(one(9, Some(request_for(&created)))).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(Outcome::Response(response)) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(response.verdict(), Verdict::Deactivated);

    let mut serve = serve;
    serve.process.terminate();
    // The stream ends gracefully, or with the connection.
    assert!(!matches!(answers.message().await, Ok(Some(_))));
}

#[tokio::test]
async fn without_a_lease_a_stream_stays_open_and_answers_each_request_with_no_lease() {
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let validator = serve.spawn_validator("sidecar");
    let client = ValidatorClient::connect(validator.grpc).await;
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let mut answers = client.stream(requests).await.unwrap();
    serve.process.kill();
    loop {
        sender.send(StreamValidateTokensRequest { id: 1, request: Some(request_for("hunter2")) }).await.unwrap();
        match answers.message().await.unwrap().unwrap().outcome {
            Some(Outcome::Response(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Some(Outcome::Error(error)) => {
                assert_eq!((error.code, error.reason.as_str()), (14, "NO_LEASE"));
                break;
            }
            None => panic!("an answer without an outcome"),
        }
    }
    let status = client.batch(vec![request_for("hunter2")]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
}
