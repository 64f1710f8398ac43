//! Authorization of changes, in the transaction of the change.

use std::time::Duration;

use keyward_domain::{Error, Reason, Revision, Role, RoleBinding};
use keyward_store::{Call, Store};
use tokio::time::{sleep, timeout};

use super::database::Database;
use super::{
    all_changes, create_key, create_member, create_project, head, key_draft, key_name, key_name_in, member_draft,
    member_id, on_all, on_durable, on_platform, on_project, project_draft, project_id, refused, secret, to_create_key,
    to_create_member, to_create_project, to_deactivate_key, under,
};

on_all! {
    without_the_role_nothing_is_written,
    a_role_on_one_project_counts_on_no_other,
    a_project_role_gives_nothing_on_the_platform,
    changes_are_logged_in_the_members_name,
    an_unauthorized_caller_learns_nothing,
}

on_durable! {
    a_role_revoked_during_the_call_permits_nothing,
}

/// Tries each kind of change as `actor`, on the project `6666`. None of them succeeds twice.
async fn attempts(store: &Store, actor: &str) -> [(&'static str, Result<Revision, Error>); 4] {
    let project = project_draft("9999");
    let project = store.create_project(&to_create_project(actor), &project, 1, &secret("by attempt 1")).await;
    let member = member_draft("mallory", &[on_platform(Role::Owner)]);
    let member = store.create_member(&to_create_member(actor), &member, &secret("by attempt 2")).await;
    let key = key_draft(key_name("new"));
    let key = store.create_key(&to_create_key(actor, "6666"), &key, &secret("by attempt 3")).await;
    let end = store.deactivate_key(&to_deactivate_key(actor, "6666"), &key_name("old"), "").await;
    [
        ("CreateProject", project.map(|created| created.revision)),
        ("CreateMember", member.map(|created| created.revision)),
        ("CreateKey", key.map(|created| created.revision)),
        ("DeactivateKey", end.map(|deactivated| deactivated.revision)),
    ]
}

/// A database with the keys `6666/old` and `7777/old`, and alice with `roles`: revision 6.
async fn with_alice(db: &Database, roles: &[RoleBinding]) -> Store {
    let store = db.started().await;
    create_project(&store, "7777").await;
    create_key(&store, &key_name("old")).await;
    create_key(&store, &key_name_in("7777", "old")).await;
    create_member(&store, "alice", roles).await;
    store
}

async fn expect_denied(store: &Store, actor: &str, methods: &[&str]) {
    let before = store.head().await.unwrap();
    for (method, attempt) in attempts(store, actor).await {
        if methods.contains(&method) {
            assert_eq!(refused(attempt), Reason::PermissionDenied, "{method} by {actor}");
        }
    }
    assert_eq!(store.head().await.unwrap(), before, "{actor}");
}

async fn without_the_role_nothing_is_written(db: &Database) {
    let roles = [on_project(Role::Viewer, "6666"), on_platform(Role::Support), on_platform(Role::Validator)];
    let store = with_alice(db, &roles).await;
    create_member(&store, "nobody", &[]).await;
    create_member(&store, "node", &[on_platform(Role::AdminNode)]).await;
    let every = ["CreateProject", "CreateMember", "CreateKey", "DeactivateKey"];
    for actor in ["alice", "nobody", "node", "stranger"] {
        expect_denied(&store, actor, &every).await;
    }
    assert_eq!(store.key(&key_name("new")).await.unwrap(), None);
    assert_eq!(store.project(&project_id("9999")).await.unwrap(), None);
    assert_eq!(store.member(&member_id("mallory")).await.unwrap(), None);
    assert_eq!(store.key(&key_name("old")).await.unwrap().unwrap().deactivator, None);
}

async fn a_role_on_one_project_counts_on_no_other(db: &Database) {
    let store = with_alice(db, &[on_project(Role::Editor, "7777")]).await;
    expect_denied(&store, "alice", &["CreateKey", "DeactivateKey"]).await;
    let draft = key_draft(key_name_in("7777", "new"));
    store.create_key(&to_create_key("alice", "7777"), &draft, &secret("secret")).await.unwrap();
}

async fn a_project_role_gives_nothing_on_the_platform(db: &Database) {
    let store = with_alice(db, &[on_project(Role::Editor, "6666")]).await;
    let before = store.head().await.unwrap();
    let project = store.create_project(&to_create_project("alice"), &project_draft("9999"), 1, &secret("a")).await;
    assert_eq!(refused(project), Reason::PermissionDenied);
    let member = store.create_member(&to_create_member("alice"), &member_draft("mallory", &[]), &secret("b")).await;
    assert_eq!(refused(member), Reason::PermissionDenied);
    // A call without a project is a call on the deployment.
    let call = Call { scope: None, ..to_create_key("alice", "6666") };
    let key = store.create_key(&call, &key_draft(key_name("new")), &secret("c")).await;
    assert_eq!(refused(key), Reason::PermissionDenied);
    assert_eq!(store.head().await.unwrap(), before);
}

async fn changes_are_logged_in_the_members_name(db: &Database) {
    let store = with_alice(db, &[on_project(Role::Viewer, "7777"), on_project(Role::Editor, "6666")]).await;
    create_member(&store, "olga", &[on_platform(Role::Owner)]).await;
    for (method, attempt) in attempts(&store, "alice").await.into_iter().skip(2) {
        attempt.unwrap_or_else(|error| panic!("{method}: {error}"));
    }
    for (method, attempt) in attempts(&store, "olga").await.into_iter().take(2) {
        attempt.unwrap_or_else(|error| panic!("{method}: {error}"));
    }
    let actors: Vec<_> = all_changes(&store).await.iter().map(|change| change.actor.to_string()).collect();
    assert_eq!(actors[7..], ["alice", "alice", "olga", "olga"]);
    assert_eq!(store.key(&key_name("new")).await.unwrap().unwrap().creator, member_id("alice"));
    assert_eq!(store.key(&key_name("old")).await.unwrap().unwrap().deactivator, Some(member_id("alice")));
    assert_eq!(store.project(&project_id("9999")).await.unwrap().unwrap().creator, member_id("olga"));
    assert_eq!(store.member(&member_id("mallory")).await.unwrap().unwrap().creator, Some(member_id("olga")));
}

/// Authorization comes before every query: an unauthorized caller gets the same error for a taken name, an unknown project and
/// a request id of another member.
async fn an_unauthorized_caller_learns_nothing(db: &Database) {
    let store = with_alice(db, &[]).await;
    let stamped = |actor, payload| under(to_create_key(actor, "6666"), "CreateKey", super::REQUEST, payload);
    store.create_key(&stamped("root", 1), &key_draft(key_name("taken")), &secret("taken")).await.unwrap();
    for (call, name) in [
        (to_create_key("alice", "6666"), key_name("taken")),
        (to_create_key("alice", "8888"), key_name_in("8888", "any")),
        (stamped("alice", 1), key_name("taken")),
        (stamped("alice", 2), key_name("taken")),
    ] {
        let refusal = store.create_key(&call, &key_draft(name), &secret("again")).await;
        assert_eq!(refused(refusal), Reason::PermissionDenied);
    }
    let absent = store.deactivate_key(&to_deactivate_key("alice", "6666"), &key_name("absent"), "").await;
    assert_eq!(refused(absent), Reason::PermissionDenied);
}

const REVOKE: &str = "DELETE FROM role_binding WHERE member_id = 'alice'";

async fn alice_creates(store: &Store, key: &str) -> Result<Revision, Error> {
    let created = store.create_key(&to_create_key("alice", "6666"), &key_draft(key_name(key)), &secret(key)).await?;
    Ok(created.revision)
}

/// A change commits before the revocation of its right, or not at all. The plain connection stands for the revocation, which
/// locks the head of the log like every change.
async fn a_role_revoked_during_the_call_permits_nothing(db: &Database) {
    let store = with_alice(db, &[on_project(Role::Editor, "6666")]).await;
    let before = head(&store).await;
    let mut revoker = db.plain().await;
    revoker.stop_writers().await;
    let attempt = tokio::spawn({
        let store = store.clone();
        async move { alice_creates(&store, "new").await }
    });
    // By now the call has passed the first authorization, and waits for the head of the log.
    sleep(Duration::from_millis(150)).await;
    assert!(!attempt.is_finished());
    revoker.run(REVOKE).await;
    revoker.run("COMMIT").await;
    assert_eq!(refused(attempt.await.unwrap()), Reason::PermissionDenied);
    assert_eq!(head(&store).await, before);
}

/// Not for SQLite, whose writers queue for one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_stops_writing_cannot_delay_its_revocation_in_postgres() {
    let db = Database::postgres();
    let store = with_alice(&db, &[on_project(Role::Editor, "6666")]).await;
    let admins = db.admins(&store).await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = admins[writer % 2].clone();
            tokio::spawn(async move {
                let mut last = Revision(0);
                for n in 0.. {
                    match alice_creates(&store, &format!("w{writer}_{n}")).await {
                        Ok(revision) => last = revision,
                        Err(error) => return (last, error.reason()),
                    }
                }
                unreachable!("only an error ends it")
            })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    let mut revoker = db.plain().await;
    let taken = timeout(Duration::from_secs(5), async {
        revoker.run("BEGIN").await;
        revoker.run(REVOKE).await;
        let at = revoker.number("SELECT revision FROM rev_counter FOR UPDATE").await;
        revoker.run("COMMIT").await;
        Revision(at)
    });
    let taken = taken.await.expect("the revocation is delayed");
    for writer in writers {
        let (last, reason) = writer.await.unwrap();
        assert_eq!(reason, Reason::PermissionDenied);
        assert!(last <= taken, "a change at {last} for a role that was revoked at {taken}");
    }
    assert_eq!(head(&store).await, taken);
}
