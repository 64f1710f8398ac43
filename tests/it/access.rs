//! Authorization and request checks of the admin API.

use keyward_proto::admin::{CreateKeyRequest, Key, Role, RoleBinding, WhoAmIRequest};
use keyward_proto::replica::replica_service_client::ReplicaServiceClient;
use keyward_proto::replica::{Hello, SyncRequest, sync_request};
use keyward_tests::client::{Admin, on_platform, on_project, reason, transport, violation};
use keyward_tests::grpcurl::call;
use keyward_tests::keyward::Serve;
use serde_json::json;
use tonic::Code;

/// Returns every method that reflection lists, from the contract's descriptors.
fn methods() -> Vec<String> {
    use prost::Message;
    let set = prost_types::FileDescriptorSet::decode(keyward_proto::DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().filter(|f| f.package() != "keyward.validate.v1");
    services
        .flat_map(|file| file.service.iter().map(move |s| (format!("{}.{}", file.package(), s.name()), &s.method)))
        .flat_map(|(service, methods)| methods.iter().map(move |m| format!("{service}/{}", m.name())))
        .collect()
}

#[tokio::test]
async fn every_admin_method_requires_a_credential_that_this_platform_issued() {
    let serve = Serve::start();
    let client = tonic::client::Grpc::new(keyward_tests::client::channel(serve.admin).await);
    let methods = methods();
    assert!(methods.len() >= 12, "{methods:?}");
    let foreign = keyward_token::Token::generate(&Default::default(), keyward_token::TokenKind::Member).unwrap();
    for method in methods {
        let headers = [
            (None, "CREDENTIAL_MISSING"),
            (Some("Basic dTpw".to_owned()), "CREDENTIAL_MISSING"),
            (Some("Bearer ".to_owned()), "CREDENTIAL_INVALID"),
            (Some("Bearer hunter2".to_owned()), "CREDENTIAL_INVALID"),
            (Some(format!("Bearer {}", foreign.expose())), "CREDENTIAL_INVALID"),
        ];
        for (header, expected) in headers {
            let mut request = tonic::Request::new(());
            if let Some(header) = header {
                request.metadata_mut().insert("authorization", header.parse().unwrap());
            }
            let mut client = client.clone();
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let path = format!("/{method}").parse().unwrap();
            let status = client.unary(request, path, codec).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected), "{method}");
        }
    }
}

#[tokio::test]
async fn a_key_or_a_duplicated_credential_does_not_authenticate_a_member() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let token = admin.create_project("6666").await.unwrap().default_token;
    let impostor = Admin::connect(serve.admin, &token).await;
    let status = impostor.list("6666", 0).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"));
    let mut request = tonic::Request::new(WhoAmIRequest {});
    for _ in 0..2 {
        request.metadata_mut().append("authorization", format!("Bearer {}", serve.root()).parse().unwrap());
    }
    let anonymous = Admin::connect(serve.admin, "").await;
    let status = anonymous.members.clone().who_am_i(request).await.unwrap_err();
    assert_eq!(reason(&status), "CREDENTIAL_MISSING");
}

#[tokio::test]
async fn a_role_grants_exactly_its_methods_and_hides_other_projects() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    root.create_project("7777").await.unwrap();
    root.create_key("6666", "a").await.unwrap();
    root.create_key("7777", "a").await.unwrap();
    let as_member = |id: &'static str, roles: Vec<RoleBinding>| {
        let (root, at) = (root.clone(), serve.admin);
        async move { Admin::connect(at, &root.create_member(id, &roles).await.unwrap()).await }
    };
    let viewer = as_member("viewer", vec![on_project(Role::Viewer, "6666")]).await;
    let editor = as_member("editor", vec![on_project(Role::Editor, "6666")]).await;
    let support = as_member("support", vec![on_platform(Role::Support)]).await;
    let validator = as_member("validator", vec![on_platform(Role::Validator)]).await;
    let nothing = as_member("nothing", vec![]).await;

    let refused = |status: tonic::Status| (status.code(), reason(&status));
    let denied = || (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    let no_project = || (Code::NotFound, "PROJECT_NOT_FOUND".to_owned());
    let no_key = || (Code::NotFound, "KEY_NOT_FOUND".to_owned());

    assert_eq!(viewer.list("6666", 0).await.unwrap().len(), 2);
    assert_eq!(refused(viewer.create_key("6666", "b").await.unwrap_err()), denied());
    assert_eq!(refused(viewer.deactivate("6666", "a").await.unwrap_err()), denied());
    assert_eq!(refused(viewer.list("7777", 0).await.unwrap_err()), no_project());

    editor.create_key("6666", "b").await.unwrap();
    editor.deactivate("6666", "b").await.unwrap();
    // A key of a project that the member may not see is NOT_FOUND, whether it exists or not.
    assert_eq!(refused(editor.deactivate("7777", "a").await.unwrap_err()), no_key());
    assert_eq!(refused(editor.deactivate("7777", "nonesuch").await.unwrap_err()), no_key());
    assert_eq!(refused(editor.create_key("7777", "b").await.unwrap_err()), no_project());
    assert_eq!(refused(editor.create_project("8888").await.unwrap_err()), denied());
    assert_eq!(refused(editor.create_member("x", &[]).await.unwrap_err()), denied());

    assert_eq!(support.list("7777", 0).await.unwrap().len(), 2);
    assert_eq!(refused(support.create_key("7777", "b").await.unwrap_err()), denied());

    for member in [validator, nothing] {
        assert_eq!(refused(member.list("6666", 0).await.unwrap_err()), denied());
        assert_eq!(refused(member.create_project("8888").await.unwrap_err()), denied());
        // WhoAmI is open to every member.
        member.members.clone().who_am_i(WhoAmIRequest {}).await.unwrap();
    }
    let seen =
        editor.projects.clone().list_projects(keyward_proto::admin::ListProjectsRequest::default()).await.unwrap();
    let seen: Vec<_> = seen.into_inner().projects.into_iter().map(|p| p.name).collect();
    assert_eq!(seen, ["projects/6666"]);
}

#[tokio::test]
async fn only_validators_may_open_a_sync_stream_and_receive_the_digest_keys() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let editor = root.create_member("editor", &[on_project(Role::Editor, "6666")]).await.unwrap();
    let validator = root.create_member("edge", &[on_platform(Role::Validator)]).await.unwrap();
    for (credential, may) in [(editor, false), (validator, true), (serve.root(), false)] {
        let mut client = ReplicaServiceClient::new(transport(serve.admin, Some(&credential)).await);
        let hello = Hello { protocol: 1, validator_id: "test".to_owned(), ..Default::default() };
        let hello = SyncRequest { message: Some(sync_request::Message::Hello(hello)) };
        match client.sync(tokio_stream::iter([hello])).await {
            Ok(_) => assert!(may),
            Err(status) => {
                assert!(!may, "{status:?}");
                assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
            }
        }
    }
}

#[tokio::test]
async fn invalid_members_and_create_requests_are_refused_with_the_field_and_the_rule() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    for (id, roles, field) in [
        ("Alice", vec![], "member_id"),
        ("a", vec![on_platform(Role::Viewer)], "member.roles"),
        ("a", vec![on_project(Role::Owner, "6666")], "member.roles"),
        ("a", vec![on_platform(Role::Unspecified)], "member.roles"),
        ("a", vec![on_platform(Role::Owner), on_platform(Role::Owner)], "member.roles"),
    ] {
        assert_eq!(violation(&root.create_member(id, &roles).await.unwrap_err()).0, field);
    }
    root.create_member("alice", &[]).await.unwrap();
    let status = root.create_member("alice", &[]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "MEMBER_ID_TAKEN"));

    for (key, field) in [
        (Key { description: "x".repeat(257), ..Default::default() }, "key.description"),
        (Key { description: "two\nlines".to_owned(), ..Default::default() }, "key.description"),
        (Key { description: "live\u{202e}daed".to_owned(), ..Default::default() }, "key.description"),
        (Key { description: "live\u{61c}daed".to_owned(), ..Default::default() }, "key.description"),
        (Key { description: "live\u{200b}".to_owned(), ..Default::default() }, "key.description"),
        (Key { annotations: [("a".to_owned(), "\u{61c}".to_owned())].into(), ..Default::default() }, "key.annotations"),
        (Key { platform: "windows".to_owned(), ..Default::default() }, "key.platform"),
        (Key { annotations: [("Bad Name".to_owned(), String::new())].into(), ..Default::default() }, "key.annotations"),
        (Key { creator: "members/mallory".to_owned(), ..Default::default() }, "key"),
        (Key { default_key: true, ..Default::default() }, "key"),
    ] {
        assert_eq!(violation(&root.create_key_as("6666", "a", key).await.unwrap_err()).0, field);
    }
    for parent in ["6666", "projects/", "projects/a b", ""] {
        let request = CreateKeyRequest { parent: parent.to_owned(), key_id: "a".to_owned(), ..Default::default() };
        assert_eq!(violation(&root.keys.clone().create_key(request).await.unwrap_err()).0, "parent");
    }
}

#[test]
fn the_health_checks_of_admin_and_validator_report_serving() {
    let serve = Serve::start();
    let health = call(serve.admin, &serve.root(), "grpc.health.v1.Health/Check", &json!({}));
    assert_eq!(health.answer["status"], "SERVING", "{}", health.error);
    // Health follows the lease, with a short delay.
    let begun = std::time::Instant::now();
    let serving = || call(serve.validator, "", "grpc.health.v1.Health/Check", &json!({})).answer["status"] == "SERVING";
    while !serving() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }
}
