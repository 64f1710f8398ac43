//! The change log through the audit API and the CLI.

use keyward_proto::admin::event::Type;
use keyward_proto::admin::{
    Event, IssueCredentialRequest, Key, ListEventsRequest, RevealTokenRequest, Role, RotateKeyRequest,
    UpdateKeyRequest, VerifyLogRequest,
};
use keyward_tests::client::{Admin, on_platform, on_project, reason, violation};
use keyward_tests::keyward::Serve;
use sqlx::{Connection, SqliteConnection};
use tonic::{Code, Status};

async fn events(admin: &Admin, parent: &str, filter: &str, page_size: i32) -> Result<Vec<Event>, Status> {
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListEventsRequest { parent: parent.to_owned(), page_size, page_token, filter: filter.to_owned() };
        let page = admin.audit.clone().list_events(request).await?.into_inner();
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            return Ok(events);
        }
        page_token = page.next_page_token;
    }
}

fn summary(event: &Event) -> (String, Type, String) {
    (event.actor.clone(), event.r#type(), event.resource.clone())
}

fn changes(event: &Event) -> Vec<(&str, &str, &str)> {
    event.changes.iter().map(|c| (c.field.as_str(), c.before.as_str(), c.after.as_str())).collect()
}

#[tokio::test]
async fn the_history_of_a_project_shows_each_actor_and_change_and_no_token() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let mut tokens = vec![root.create_project("6666").await.unwrap().default_token];
    tokens.push(root.create_project("66660").await.unwrap().default_token);
    let credential = root.create_member("alice", &[on_project(Role::Editor, "6666")]).await.unwrap();
    let alice = Admin::connect(serve.admin, &credential).await;
    let name = |key: &str| format!("projects/6666/keys/{key}");
    tokens.push(alice.create_key("6666", "a").await.unwrap().token);
    let key = Some(Key { name: name("a"), description: "the shop".to_owned(), ..Default::default() });
    alice.keys.clone().update_key(UpdateKeyRequest { key, update_mask: None }).await.unwrap();
    alice.keys.clone().reveal_token(RevealTokenRequest { name: name("a") }).await.unwrap();
    let rotate = RotateKeyRequest { name: name("a"), new_key_id: "b".to_owned(), ..Default::default() };
    tokens.push(alice.keys.clone().rotate_key(rotate).await.unwrap().into_inner().token);
    root.deactivate("6666", "a").await.unwrap();
    tokens.push(credential);

    let all = events(&alice, "projects/6666", "", 100).await.unwrap();
    let (by_alice, by_root) = ("members/alice".to_owned(), "members/root".to_owned());
    let expected = [
        (by_root.clone(), Type::KeyDeactivated, name("a")),
        (by_alice.clone(), Type::KeyRotated, name("b")),
        (by_alice.clone(), Type::TokenRevealed, name("a")),
        (by_alice.clone(), Type::KeyUpdated, name("a")),
        (by_alice, Type::KeyCreated, name("a")),
        (by_root, Type::ProjectCreated, "projects/6666".to_owned()),
    ];
    assert_eq!(all.iter().map(summary).collect::<Vec<_>>(), expected);
    assert_eq!(changes(&all[0]), [("state", "ACTIVE", "DEACTIVATED")]);
    assert_eq!(all[1].related, [name("a")]);
    assert!(changes(&all[1]).contains(&("related.replaced_by", "", "projects/6666/keys/b")));
    assert_eq!(changes(&all[3]), [("description", "", "the shop")]);
    assert!(all[5].related[0].starts_with("projects/6666/keys/6666_default_"));
    assert!(all.windows(2).all(|pair| pair[0].revision > pair[1].revision && pair[0].time.is_some()));
    // Every page size gives the same events.
    for size in [1, 2, 5] {
        assert_eq!(events(&alice, "projects/6666", "", size).await.unwrap(), all);
    }

    let printed = format!("{:?}", events(&root, "", "", 100).await.unwrap());
    for token in &tokens {
        assert!(!printed.contains(token.as_str()), "a token is in the log");
    }
    assert!(printed.contains("editor on projects/6666"), "{printed}");
}

#[tokio::test]
async fn event_filters_select_by_type_actor_resource_and_time() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    let credential = root.create_member("alice", &[on_project(Role::Editor, "6666")]).await.unwrap();
    let alice = Admin::connect(serve.admin, &credential).await;
    alice.create_key("6666", "shop_a").await.unwrap();
    root.create_key("6666", "shop_b").await.unwrap();
    root.deactivate("6666", "shop_b").await.unwrap();
    let count = async |filter: &str| events(&root, "", filter, 2).await.unwrap().len();
    assert_eq!(count("").await, 6);
    assert_eq!(count("type = KEY_CREATED").await, 2);
    assert_eq!(count("actor = members/alice").await, 1);
    assert_eq!(count("type = KEY_CREATED AND actor = \"members/root\"").await, 1);
    assert_eq!(count("resource = projects/6666/keys/shop_b").await, 2);
    assert_eq!(count("resource = \"projects/6666/keys/shop_*\"").await, 3);
    assert_eq!(count("time >= \"2020-01-01T00:00:00Z\" AND time < \"2200-01-01T00:00:00Z\"").await, 6);
    assert_eq!(count("time < \"2020-01-01T00:00:00Z\"").await, 0);
    let third = events(&root, "", "", 10).await.unwrap()[3].time.unwrap().to_string();
    assert_eq!(count(&format!("time >= {third}")).await, 4);

    for bad in
        ["type = key_created", "type = NONESUCH", "actor = alice", "time >= yesterday", "time = 1", "uid = a", "a"]
    {
        let status = events(&root, "", bad, 10).await.unwrap_err();
        assert_eq!((status.code(), violation(&status).0.as_str()), (Code::InvalidArgument, "filter"), "{bad}");
    }
    // A page token is valid only with the filter that it was issued for.
    let first = ListEventsRequest { page_size: 1, ..Default::default() };
    let token = root.audit.clone().list_events(first).await.unwrap().into_inner().next_page_token;
    let request =
        ListEventsRequest { page_token: token, filter: "type = KEY_CREATED".to_owned(), ..Default::default() };
    assert_eq!(reason(&root.audit.clone().list_events(request).await.unwrap_err()), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn the_history_of_a_project_is_visible_to_its_members_only() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    for project in ["6666", "7777"] {
        root.create_project(project).await.unwrap();
    }
    let viewer = root.create_member("viewer", &[on_project(Role::Viewer, "6666")]).await.unwrap();
    let viewer = Admin::connect(serve.admin, &viewer).await;
    let support = root.create_member("support", &[on_platform(Role::Support)]).await.unwrap();
    let support = Admin::connect(serve.admin, &support).await;
    assert_eq!(events(&viewer, "projects/6666", "", 10).await.unwrap().len(), 1);
    let hidden = events(&viewer, "projects/7777", "", 10).await.unwrap_err();
    assert_eq!((hidden.code(), reason(&hidden).as_str()), (Code::NotFound, "PROJECT_NOT_FOUND"));
    let platform = events(&viewer, "", "", 10).await.unwrap_err();
    assert_eq!((platform.code(), reason(&platform).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(events(&support, "", "", 10).await.unwrap().len(), 5);
    let missing = events(&support, "projects/8888", "", 10).await.unwrap_err();
    assert_eq!(reason(&missing), "PROJECT_NOT_FOUND");
    let denied = support.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap_err();
    assert_eq!(reason(&denied), "PERMISSION_DENIED");
}

#[tokio::test]
async fn audit_verify_reports_a_row_that_was_changed_outside_keyward() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    root.create_key("6666", "a").await.unwrap();
    root.deactivate("6666", "a").await.unwrap();
    let head_file = serve.data_dir().join("head");
    let verify = || {
        let output = serve.operator(&["audit", "verify", "--head-file", head_file.to_str().unwrap()]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, output) = verify();
    assert_eq!((code, output.as_str()), (Some(0), "intact: 4 entries up to revision 4, 8 rows\n"));
    let noted = std::fs::read_to_string(&head_file).unwrap();

    let mut database =
        SqliteConnection::connect(&format!("sqlite:{}", serve.data_dir().join("keyward.db").display())).await.unwrap();
    let edit = "UPDATE api_key SET state = 'active' WHERE key_id = 'a'";
    sqlx::query(edit).execute(&mut database).await.unwrap();
    let (code, output) = verify();
    assert_eq!((code, output.as_str()), (Some(8), "projects/6666/keys/a: its row is not what the log says\n"));
    let found = root.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(!found.intact && found.finding_count == 1 && found.findings.len() == 1, "{found:?}");

    sqlx::query("UPDATE api_key SET state = 'deactivated' WHERE key_id = 'a'").execute(&mut database).await.unwrap();
    sqlx::query("UPDATE change_log SET actor = 'bob' WHERE revision = 4").execute(&mut database).await.unwrap();
    let (code, output) = verify();
    assert!(code == Some(8) && output.starts_with("revision 4: the chain does not hold"), "{output}");
    // A damaged log is not saved as the head.
    assert_eq!(std::fs::read_to_string(&head_file).unwrap(), noted);
}

#[tokio::test]
async fn acts_by_a_role_that_was_inserted_and_deleted_outside_keyward_have_no_effect_or_are_found() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    root.create_project("6666").await.unwrap();
    root.create_key("6666", "a").await.unwrap();
    let credential = root.create_member("mallory", &[]).await.unwrap();
    let mallory = Admin::connect(serve.admin, &credential).await;
    let url = format!("sqlite:{}", serve.data_dir().join("keyward.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let insert = "INSERT INTO role_binding (member_id, role, project_id) VALUES ('mallory', 'owner', '')";
    sqlx::query(insert).execute(&mut database).await.unwrap();
    let reveal = RevealTokenRequest { name: "projects/6666/keys/a".to_owned() };
    let revealed = mallory.keys.clone().reveal_token(reveal).await;
    let issue = IssueCredentialRequest { name: "members/root".to_owned(), ..Default::default() };
    let issued = mallory.members.clone().issue_credential(issue).await;
    sqlx::query("DELETE FROM role_binding WHERE member_id = 'mallory'").execute(&mut database).await.unwrap();

    let committed = i64::from(revealed.is_ok()) + i64::from(issued.is_ok());
    let found = root.audit.clone().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert_eq!(found.finding_count, committed, "{found:?}");
    for finding in &found.findings {
        assert!(finding.place.ends_with(", members/mallory") && finding.problem.contains("no right"), "{finding:?}");
    }
    // The log has the credential that made each change.
    let own = events(&root, "", "type = MEMBER_CREATED AND actor = \"members/root\"", 10).await.unwrap();
    assert!(own[0].credential_name.starts_with("members/root/credentials/"), "{:?}", own[0]);
}
