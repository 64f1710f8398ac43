//! The fields that make retries and concurrent changes safe: request_id, etag, page_token.

use keyward_proto::admin::{
    CreateKeyRequest, CreateMemberRequest, CreateProjectRequest, DeactivateKeyRequest, Key, ListEventsRequest,
    ListKeysRequest, VerifyLogRequest, key,
};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, reason, request_id, violation};
use keyward_tests::keyward::Serve;
use tonic::Code;

#[tokio::test]
async fn a_request_repeated_with_its_request_id_returns_the_same_key_and_token() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let project = CreateProjectRequest { request_id: request_id(), ..Default::default() };
    let first = admin.projects.clone().create_project(project.clone()).await.unwrap().into_inner();
    let again = admin.projects.clone().create_project(project).await.unwrap().into_inner();
    // The platform allocated the id, so a second project would have another.
    assert_eq!(first.project, again.project);
    assert_eq!(first.default_token, again.default_token);

    let annotations = (0..16).map(|n| (format!("a{n}"), n.to_string())).collect();
    let request = CreateKeyRequest {
        parent: first.project.unwrap().name,
        key_id: "a".to_owned(),
        key: Some(Key { annotations, ..Default::default() }),
        request_id: request_id(),
    };
    let first = admin.keys.clone().create_key(request.clone()).await.unwrap().into_inner();
    for _ in 0..5 {
        let again = admin.keys.clone().create_key(request.clone()).await.unwrap().into_inner();
        assert_eq!((&again.key, &again.token), (&first.key, &first.token));
        assert_eq!(again.receipt.unwrap().revision, first.receipt.as_ref().unwrap().revision);
    }
    let other = CreateKeyRequest { key_id: "b".to_owned(), ..request.clone() };
    let status = admin.keys.clone().create_key(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(violation(&status).0, "request_id");
    let bad = CreateKeyRequest { request_id: "1".to_owned(), ..request };
    assert_eq!(violation(&admin.keys.clone().create_key(bad).await.unwrap_err()).0, "request_id");

    let member = CreateMemberRequest { member_id: "m".to_owned(), request_id: request_id(), ..Default::default() };
    let first = admin.members.clone().create_member(member.clone()).await.unwrap().into_inner();
    let again = admin.members.clone().create_member(member).await.unwrap().into_inner();
    assert_eq!((first.member, first.credential), (again.member, again.credential));
}

#[tokio::test]
async fn a_deactivation_with_a_stale_etag_is_refused() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let made = admin.create_key("6666", "a").await.unwrap();
    let (key, client) = (made.key.unwrap(), ValidatorClient::connect(serve.validator).await);
    let deactivate = |etag: &str| {
        let request = DeactivateKeyRequest { name: key.name.clone(), etag: etag.to_owned() };
        let mut keys = admin.keys.clone();
        async move { keys.deactivate_key(request).await }
    };
    let status = deactivate("stale").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(client.verdict(&made.token).await, Verdict::Valid);
    let done = deactivate(&key.etag).await.unwrap().into_inner();
    let revision = done.receipt.unwrap().revision;
    assert_ne!(done.key.unwrap().etag, key.etag);
    // A retry after a lost response still sends the old etag. It succeeds and returns the same revision.
    for etag in [key.etag.as_str(), "stale", ""] {
        let again = deactivate(etag).await.unwrap().into_inner();
        assert_eq!(again.receipt.unwrap().revision, revision);
    }
}

#[tokio::test]
async fn pages_are_complete_while_keys_are_being_created() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_project("7777").await.unwrap();
    for n in 0..20 {
        admin.create_key("6666", &format!("before{n}")).await.unwrap();
    }
    let parent = "projects/6666".to_owned();
    let list = |parent: &str, page_size, page_token: &str| {
        let (parent, page_token) = (parent.to_owned(), page_token.to_owned());
        let mut keys = admin.keys.clone();
        async move {
            keys.list_keys(ListKeysRequest { parent, page_size, page_token, ..Default::default() })
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let (mut names, mut token, mut extra) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(&parent, 3, &token).await.unwrap();
        assert!(page.keys.len() <= 3);
        names.extend(page.keys.into_iter().map(|k| k.name));
        if extra < 5 {
            admin.create_key("6666", &format!("during{extra}")).await.unwrap();
            extra += 1;
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let status = list("projects/7777", 3, &token).await.unwrap_err();
        assert_eq!(reason(&status), "PAGE_TOKEN_INVALID", "a token belongs to one parent");
    }
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((names.len(), unique.len()), (26, 26));
    let status = list(&parent, -1, "").await.unwrap_err();
    assert_eq!(violation(&status).0, "page_size");
    let status = list(&parent, 3, "bm90IG91cnM").await.unwrap_err();
    assert_eq!((reason(&status).as_str(), violation(&status).0.as_str()), ("PAGE_TOKEN_INVALID", "page_token"));
    assert_eq!(list(&parent, 5_000, "").await.unwrap().keys.len(), 26);
}

#[tokio::test]
async fn a_repeated_request_returns_no_token_of_a_deactivated_key_and_each_replay_is_in_the_log() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let request = CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: "a".to_owned(),
        request_id: request_id(),
        ..Default::default()
    };
    let first = admin.keys.clone().create_key(request.clone()).await.unwrap().into_inner();
    let replays = async || {
        let filter = "type = TOKEN_REPLAYED AND resource = projects/6666/keys/a".to_owned();
        let request = ListEventsRequest { filter, ..Default::default() };
        admin.audit.clone().list_events(request).await.unwrap().into_inner().events.len()
    };
    let again = admin.keys.clone().create_key(request.clone()).await.unwrap().into_inner();
    assert_eq!((again.token, replays().await), (first.token, 1));

    admin.deactivate("6666", "a").await.unwrap();
    let again = admin.keys.clone().create_key(request).await.unwrap().into_inner();
    assert_eq!((again.token.as_str(), again.receipt.unwrap().revision), ("", first.receipt.unwrap().revision));
    assert_eq!(again.key.unwrap().state(), key::State::Deactivated);
    assert_eq!(replays().await, 1, "nothing was returned, so nothing is logged");
    let found = admin.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(found.intact, "{found:?}");
}
