//! The rules for the names of projects and keys.

use keyward_proto::admin::CreateProjectRequest;
use keyward_tests::client::{Admin, reason, violation};
use keyward_tests::keyward::Serve;
use tonic::Code;

#[tokio::test]
async fn key_names_are_letters_digits_and_underscores() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let longest = "k".repeat(64);
    for good in ["server_prod", "A", "9", "_", "a", longest.as_str()] {
        let made = admin.create_key("6666", good).await.unwrap();
        assert_eq!(made.key.unwrap().name, format!("projects/6666/keys/{good}"));
    }
    let too_long = "k".repeat(65);
    for bad in ["server-prod", "a.b", "a b", "", too_long.as_str(), "ключ", "a/b", "a\n", "\n", "a\0", "é", " a"] {
        let status = admin.create_key("6666", bad).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"), "{bad:?}");
        let (field, rule) = violation(&status);
        assert_eq!(field, "key_id", "{bad:?}");
        assert!(rule.contains("1 to 64 letters, digits and underscores"), "{rule}");
    }
    assert_eq!(admin.list("6666", 0).await.unwrap().len(), 7, "a refused name leaves nothing behind");
}

#[tokio::test]
async fn a_key_name_is_never_free_again_and_its_project_must_exist() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    admin.create_key("6666", "a").await.unwrap();
    for _ in 0..2 {
        let status = admin.create_key("6666", "a").await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "KEY_NAME_TAKEN"));
        assert!(status.message().contains("a deactivated key keeps its name"), "{}", status.message());
        admin.deactivate("6666", "a").await.unwrap();
    }
    // Names are case-sensitive, in every database.
    admin.create_key("6666", "A").await.unwrap();
    let status = admin.create_key("7777", "a").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PROJECT_NOT_FOUND"));
    let status = admin.create_project("6666").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "PROJECT_ID_TAKEN"));
}

#[tokio::test]
async fn project_ids_are_letters_and_digits_or_are_allocated() {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    let too_long = "p".repeat(33);
    for bad in ["a_b", "a-b", "a b", "ключ", "a/b", "1\n", too_long.as_str()] {
        let status = admin.create_project(bad).await.unwrap_err();
        assert_eq!(violation(&status).0, "project_id", "{bad:?}");
    }
    // The first number is taken, so Keyward allocates the next.
    admin.create_project("1000").await.unwrap();
    let allocated = admin.create_project("").await.unwrap().project.unwrap().name;
    assert_eq!(allocated, "projects/1001");
    let request = CreateProjectRequest { project_id: "x".to_owned(), ..Default::default() };
    let first = admin.projects.clone().create_project(request).await.unwrap().into_inner();
    assert!(first.default_key.unwrap().name.starts_with("projects/x/keys/x_default_"));
}
