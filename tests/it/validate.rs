//! Verdicts, one by one, through ValidateToken.

use std::time::{Duration, SystemTime};

use keyward_proto::admin::Key;
use keyward_proto::validate::stream_validate_tokens_response::Outcome;
use keyward_proto::validate::validate_token_request::Consistency;
use keyward_proto::validate::{StreamValidateTokensRequest, ValidateTokenRequest, ValidateTokenResponse, Verdict};
use keyward_tests::client::{Admin, Asker, reason, violation};
use keyward_tests::keyward::Serve;
use keyward_token::{Token, TokenFormat, TokenKind};
use tonic::Code;

/// One character of a token replaced.
fn misspelt(token: &str) -> String {
    let mut text = token.to_owned();
    let last = if text.ends_with('0') { '1' } else { '0' };
    text.pop();
    text.push(last);
    text
}

#[tokio::test]
async fn every_verdict_is_given_for_its_own_reason() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let asker = Asker::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    admin.create_project("7777").await.unwrap();
    let good = admin.create_key("6666", "good").await.unwrap().token;
    let ios = Key { platform: "ios".to_owned(), ..Default::default() };
    let client = admin.create_key_as("6666", "app", ios).await.unwrap().token;
    assert!(client.starts_with("kwc_"));
    let ask = |token: &str, project: &str, allow_client_keys| {
        let request = ValidateTokenRequest {
            token: token.to_owned(),
            project: project.to_owned(),
            allow_client_keys,
            ..Default::default()
        };
        let asker = asker.clone();
        async move { asker.ask_as(request).await.unwrap() }
    };

    assert_eq!(ask(&good, "", false).await.verdict(), Verdict::Valid);
    assert_eq!(ask(&good, "6666", false).await.verdict(), Verdict::Valid);
    assert_eq!(ask(&good, "projects/6666", false).await.verdict(), Verdict::Valid);
    let wrong = ask(&good, "7777", false).await;
    assert_eq!((wrong.verdict(), wrong.project.as_str()), (Verdict::WrongProject, "6666"));
    assert_eq!(ask(&client, "6666", false).await.verdict(), Verdict::ClientKeyNotAllowed);
    let allowed = ask(&client, "6666", true).await;
    assert_eq!((allowed.verdict(), allowed.platform.as_str()), (Verdict::Valid, "ios"));

    let stranger = Token::generate(&TokenFormat::default(), TokenKind::Server).unwrap();
    let unknown = ask(stranger.expose(), "", false).await;
    assert_eq!((unknown.verdict(), unknown.key.as_str()), (Verdict::Unknown, ""));
    let long = "k".repeat(10_000);
    for malformed in ["", "hunter2", &misspelt(&good), &good[1..], &format!("{good} "), long.as_str(), "ключ"] {
        assert_eq!(ask(malformed, "", false).await.verdict(), Verdict::Malformed, "{malformed:?}");
    }
    // A member's credential is a token, but of nobody's key.
    assert_eq!(ask(&serve.root(), "", false).await.verdict(), Verdict::Unknown);
}

#[tokio::test]
async fn a_key_expires_by_itself() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let asker = Asker::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    let soon = SystemTime::now() + Duration::from_millis(1_500);
    let key = Key { expire_time: Some(soon.into()), ..Default::default() };
    let token = admin.create_key_as("6666", "short", key).await.unwrap().token;
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    while asker.verdict(&token).await == Verdict::Valid {
        assert!(SystemTime::now() < soon + Duration::from_secs(1), "still valid after its expiry");
    }
    assert_eq!(asker.verdict(&token).await, Verdict::Expired);
    let past = Key { expire_time: Some(SystemTime::UNIX_EPOCH.into()), ..Default::default() };
    let status = admin.create_key_as("6666", "late", past).await.unwrap_err();
    assert_eq!(violation(&status), ("key.expire_time".to_owned(), "must be in the future".to_owned()));
}

#[tokio::test]
async fn at_least_answers_from_that_revision_or_not_at_all() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let asker = Asker::connect(serve.validator).await;
    let created = admin.create_project("6666").await.unwrap();
    let revision = created.receipt.unwrap().revision;
    let ask = |consistency: Consistency, min_revision| {
        let token = created.default_token.clone();
        asker.ask_as(ValidateTokenRequest {
            token,
            consistency: consistency.into(),
            min_revision,
            ..Default::default()
        })
    };
    assert_eq!(ask(Consistency::AtLeast, revision).await.unwrap().revision, revision);
    let status = ask(Consistency::AtLeast, revision + 1).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "REVISION_NOT_REACHED"));
    for (consistency, min_revision) in [(Consistency::AtLeast, 0), (Consistency::AtLeast, -1), (Consistency::Lease, 1)]
    {
        let status = ask(consistency, min_revision).await.unwrap_err();
        assert_eq!(violation(&status).0, "min_revision");
    }
}

#[tokio::test]
async fn a_project_that_cannot_be_one_is_refused_and_never_ignored() {
    let serve = Serve::start();
    let asker = Asker::connect(serve.validator).await;
    for project in ["a b", "projects/", "projects/6666/keys/a", "ключ"] {
        let request = ValidateTokenRequest { project: project.to_owned(), ..Default::default() };
        let status = asker.ask_as(request).await.unwrap_err();
        assert_eq!((status.code(), violation(&status).0.as_str()), (Code::InvalidArgument, "project"), "{project}");
    }
}

fn asking(token: &str) -> ValidateTokenRequest {
    ValidateTokenRequest { token: token.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_one_bad_request_fails_all_of_it() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let asker = Asker::connect(serve.validator).await;
    admin.create_project("6666").await.unwrap();
    let good = admin.create_key("6666", "good").await.unwrap().token;
    let dead = admin.create_key("6666", "dead").await.unwrap().token;
    admin.deactivate("6666", "dead").await.unwrap();
    let elsewhere = ValidateTokenRequest { project: "7777".to_owned(), ..asking(&good) };

    let batch = vec![asking(&good), asking("hunter2"), asking(&dead), elsewhere, asking(&good)];
    let verdicts: Vec<_> = asker.batch(batch).await.unwrap().iter().map(ValidateTokenResponse::verdict).collect();
    let wanted = [Verdict::Valid, Verdict::Malformed, Verdict::Deactivated, Verdict::WrongProject, Verdict::Valid];
    assert_eq!(verdicts, wanted);
    assert_eq!(asker.batch(Vec::new()).await.unwrap(), []);
    let most = asker.batch(vec![ValidateTokenRequest { project: "6".repeat(32), ..asking(&good) }; 500]).await.unwrap();
    assert!(most.len() == 500 && most.iter().all(|answer| answer.verdict() == Verdict::WrongProject));

    let status = asker.batch(vec![asking(&good); 501]).await.unwrap_err();
    assert_eq!(violation(&status), ("requests".to_owned(), "must be at most 500".to_owned()));
    let bad = ValidateTokenRequest { project: "a b".to_owned(), ..asking(&good) };
    let status = asker.batch(vec![asking(&good), bad]).await.unwrap_err();
    assert_eq!((status.code(), violation(&status).0.as_str()), (Code::InvalidArgument, "requests[1].project"));
}

#[tokio::test]
async fn a_stream_answers_each_request_in_order_and_ends_when_the_validator_leaves() {
    const MANY: u64 = 5_000;
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let asker = Asker::connect(serve.validator).await;
    let good = admin.create_project("6666").await.unwrap().default_token;
    let (ask, requests) = tokio::sync::mpsc::channel(64);
    let mut answers = asker.stream(requests).await.unwrap();
    let one = |id: u64, request| StreamValidateTokensRequest { id, request };
    let asked = {
        let (ask, good) = (ask.clone(), good.clone());
        tokio::spawn(async move {
            for id in 0..MANY {
                let token = if id % 3 == 0 { "hunter2" } else { &good };
                ask.send(one(id, Some(asking(token)))).await.unwrap();
            }
        })
    };
    for id in 0..MANY {
        let answer = answers.message().await.unwrap().unwrap();
        let Some(Outcome::Response(response)) = answer.outcome else { panic!("{answer:?}") };
        let wanted = if id % 3 == 0 { Verdict::Malformed } else { Verdict::Valid };
        assert_eq!((answer.id, response.verdict()), (id, wanted));
    }
    asked.await.unwrap();

    // What is wrong with one is told in its answer, and the stream goes on.
    let bad = ValidateTokenRequest { project: "a b".to_owned(), ..asking(&good) };
    for (request, id) in [(Some(bad), 7), (None, 8)] {
        ask.send(one(id, request)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(Outcome::Error(error)) = answer.outcome else { panic!("{answer:?}") };
        assert_eq!((answer.id, error.code, error.reason.as_str()), (id, 3, "FIELD_INVALID"));
    }
    // A revocation counts for the very next request on the stream.
    let created = admin.create_key("6666", "short").await.unwrap().token;
    admin.deactivate("6666", "short").await.unwrap();
    ask.send(one(9, Some(asking(&created)))).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(Outcome::Response(response)) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(response.verdict(), Verdict::Deactivated);

    let mut serve = serve;
    serve.process.terminate();
    // The end in good order, or the connection's.
    assert!(!matches!(answers.message().await, Ok(Some(_))));
}

#[tokio::test]
async fn without_a_lease_a_stream_stays_open_and_says_so_to_each() {
    let mut serve = Serve::start_with(&["--lease", "2s"]);
    let validator = serve.spawn_validator("sidecar");
    let asker = Asker::connect(validator.grpc).await;
    let (ask, requests) = tokio::sync::mpsc::channel(1);
    let mut answers = asker.stream(requests).await.unwrap();
    serve.process.kill();
    loop {
        ask.send(StreamValidateTokensRequest { id: 1, request: Some(asking("hunter2")) }).await.unwrap();
        match answers.message().await.unwrap().unwrap().outcome {
            Some(Outcome::Response(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Some(Outcome::Error(error)) => {
                assert_eq!((error.code, error.reason.as_str()), (14, "NO_LEASE"));
                break;
            }
            None => panic!("an answer without an outcome"),
        }
    }
    let status = asker.batch(vec![asking("hunter2")]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NO_LEASE"));
}
