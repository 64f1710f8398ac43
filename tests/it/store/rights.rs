//! VerifyLog replays permissions: a writer with access to the database, without the keyring and with a member's credential,
//! cannot act by a row that the log does not imply and remove the row afterwards.

use std::time::Duration;

use keyward_domain::{Error, EventFilter, Key, KeyName, KeyUpdate, Patch, Permission, Revision, Role, Timestamp};
use keyward_store::{Call, IssuedSecret, Store, Verification};

use super::database::{Database, Plain};
use super::{
    create_key, create_member, create_project, deactivate_key, digest, head, key_draft, key_name, key_name_in,
    member_draft, member_id, on_durable, on_platform, on_project, secret, to_create_key, to_create_member,
    to_create_project, to_deactivate_key,
};

on_durable! {
    acts_by_a_role_that_the_log_does_not_grant_have_no_effect_or_are_found,
    acts_by_a_credential_that_the_log_revoked_have_no_effect_or_are_found,
    acts_by_a_credential_of_another_member_have_no_effect_or_are_found,
    acts_with_a_right_at_their_revision_are_intact,
    a_scheduled_deactivation_needs_its_right_only_when_it_is_scheduled,
    a_deactivation_on_a_forged_schedule_has_no_effect_or_is_found,
    a_reveal_of_a_key_that_was_moved_to_another_project_has_no_effect_or_is_found,
    a_replay_of_a_token_that_the_log_has_ended_has_no_effect_or_is_found,
}

/// Root, the projects 6666 and 7777 with the key `secret` each, and mallory, who may see 7777.
async fn with_mallory(db: &Database) -> Store {
    let store = db.started().await;
    create_project(&store, "7777").await;
    create_key(&store, &key_name("secret")).await;
    create_key(&store, &key_name_in("7777", "secret")).await;
    create_member(&store, "mallory", &[on_project(Role::Viewer, "7777")]).await;
    store
}

/// A connection of the writer, without constraints.
async fn writer(db: &Database) -> Plain {
    let mut plain = db.plain().await;
    let free = match plain {
        Plain::Sqlite(_) => "PRAGMA foreign_keys = OFF",
        Plain::Postgres(_) => "SET session_replication_role = replica",
    };
    plain.run(free).await;
    plain
}

/// The bytes of a digest in SQL.
fn literal(plain: &Plain, of: &str) -> String {
    let hex = hex::encode(digest(of).as_bytes());
    match plain {
        Plain::Sqlite(_) => format!("x'{hex}'"),
        Plain::Postgres(_) => format!("decode('{hex}', 'hex')"),
    }
}

/// Tries each kind of change as `actor` with the credential that the test knows by the name `credential`. Returns the revisions
/// that were committed.
async fn acts(store: &Store, actor: &str, credential: &str) -> Vec<Revision> {
    let by = |call: Call| Call { credential: Some(digest(credential)), ..call };
    let on_key = |permission| by(Call { permission, ..to_create_key(actor, "6666") });
    let on_member = by(Call { permission: Permission::MemberUpdate, ..to_create_member(actor) });
    let (name, role) = (key_name("secret"), on_platform(Role::Support));
    let before = head(store).await;
    let attempts: [Result<(), Error>; 9] = [
        store.reveal_token(&on_key(Permission::KeyReveal), &name).await.map(drop),
        store.issue_credential(&on_member, &member_id("root"), &secret("stolen")).await.map(drop),
        store.grant_role(&on_member, &member_id("mallory"), &role).await.map(drop),
        store.revoke_role(&on_member, &member_id("mallory"), &role).await.map(drop),
        store.create_member(&by(to_create_member(actor)), &member_draft("eve", &[]), &secret("eve")).await.map(drop),
        store
            .create_key(&by(to_create_key(actor, "6666")), &key_draft(key_name("new")), &secret("new"))
            .await
            .map(drop),
        store.deactivate_key(&by(to_deactivate_key(actor, "6666")), &name, "").await.map(drop),
        store.activate_key(&on_key(Permission::KeyActivate), &name, "").await.map(drop),
        store
            .create_project(&by(to_create_project(actor)), &super::project_draft("8888"), 1, &secret("8888"))
            .await
            .map(drop),
    ];
    let committed: Vec<_> = (before.0 + 1..=head(store).await.0).map(Revision).collect();
    assert_eq!(attempts.iter().filter(|attempt| attempt.is_ok()).count(), committed.len());
    committed
}

/// Returns `true` if there is a finding about the entry at `revision` with a problem that contains `problem`.
pub(super) fn is_found(found: &Verification, revision: Revision, problem: &str) -> bool {
    let begin = format!("revision {revision}, ");
    found.findings.iter().any(|finding| finding.subject.starts_with(&begin) && finding.problem.contains(problem))
}

/// Every committed act is a finding that names the missing right. Without an act there is no finding, or only the findings
/// about `earlier` acts.
#[track_caller]
fn assert_all_found(found: &Verification, committed: &[Revision], earlier: &[Revision]) {
    for revision in committed {
        assert!(
            is_found(found, *revision, "right"),
            "the act at revision {revision} is not found: {:?}",
            found.findings
        );
    }
    assert!(!committed.is_empty() || !earlier.is_empty() || found.finding_count == 0, "{:?}", found.findings);
}

async fn acts_by_a_role_that_the_log_does_not_grant_have_no_effect_or_are_found(db: &Database) {
    let store = with_mallory(db).await;
    let mut plain = writer(db).await;
    let mut earlier = Vec::new();
    for (role, project) in [("owner", ""), ("editor", "6666")] {
        let insert = "INSERT INTO role_binding (member_id, role, project_id) VALUES";
        plain.run(&format!("{insert} ('mallory', '{role}', '{project}')")).await;
        let before = store.verify_log(None).await.unwrap().finding_count;
        assert!(before > 0);
        let committed = acts(&store, "mallory", "mallory").await;
        plain.run(&format!("DELETE FROM role_binding WHERE member_id = 'mallory' AND role = '{role}'")).await;
        assert_all_found(&store.verify_log(None).await.unwrap(), &committed, &earlier);
        earlier.extend(committed);
    }
}

async fn acts_by_a_credential_that_the_log_revoked_have_no_effect_or_are_found(db: &Database) {
    let store = with_mallory(db).await;
    let update = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    let issued = store.issue_credential(&update, &member_id("root"), &secret("leaked")).await.unwrap();
    store.revoke_credential(&update, &issued.name).await.unwrap();
    let mut plain = writer(db).await;
    let row = format!("WHERE digest = {}", literal(&plain, "leaked"));
    let revoke_time = plain.number(&format!("SELECT revoke_time FROM credential {row}")).await;
    plain.run(&format!("UPDATE credential SET revoke_time = NULL {row}")).await;
    let committed = acts(&store, "root", "leaked").await;
    plain.run(&format!("UPDATE credential SET revoke_time = {revoke_time} {row}")).await;
    assert_all_found(&store.verify_log(None).await.unwrap(), &committed, &[]);
}

async fn acts_by_a_credential_of_another_member_have_no_effect_or_are_found(db: &Database) {
    let store = with_mallory(db).await;
    let mut plain = writer(db).await;
    let row = format!("WHERE digest = {}", literal(&plain, "mallory"));
    plain.run(&format!("UPDATE credential SET member_id = 'root' {row}")).await;
    let committed = acts(&store, "root", "mallory").await;
    plain.run(&format!("UPDATE credential SET member_id = 'mallory' {row}")).await;
    assert_all_found(&store.verify_log(None).await.unwrap(), &committed, &[]);
    // The log shows the owner of the credential, not the actor in whose name it was used.
    let page = store.events(&EventFilter::default(), None, 100).await.unwrap();
    let owners = |revision: &Revision| page.events.iter().find(|event| event.revision == *revision)?.credential.clone();
    for owner in committed.iter().map(owners) {
        assert_eq!(owner.unwrap().member, member_id("mallory"));
    }
}

/// A right counts up to the revision that takes it away, also for the change that takes it away.
async fn acts_with_a_right_at_their_revision_are_intact(db: &Database) {
    let store = with_mallory(db).await;
    create_member(&store, "olga", &[on_platform(Role::Owner), on_project(Role::Editor, "6666")]).await;
    assert!(acts(&store, "olga", "olga").await.len() >= 8);
    let by_olga =
        Call { permission: Permission::MemberUpdate, credential: Some(digest("olga")), ..to_create_member("olga") };
    let issued = store.issue_credential(&by_olga, &member_id("olga"), &secret("second")).await.unwrap();
    let by_second = Call { credential: Some(digest("second")), ..by_olga.clone() };
    store.revoke_credential(&by_second, &issued.name).await.unwrap();
    store.revoke_role(&by_olga, &member_id("olga"), &on_platform(Role::Owner)).await.unwrap();
    let create = Call { credential: Some(digest("olga")), ..to_create_key("olga", "6666") };
    store.create_key(&create, &key_draft(key_name("by_editor")), &secret("by_editor")).await.unwrap();
    deactivate_key(&store, &key_name("by_editor")).await;
    let found = store.verify_log(None).await.unwrap();
    assert_eq!((found.finding_count, &found.findings[..]), (0, &[][..]));
}

fn to_update_key() -> Call {
    Call { permission: Permission::KeyUpdate, ..to_create_key("olga", "6666") }
}

/// Schedules the deactivation of a key, in the name of olga.
async fn schedule(store: &Store, name: &KeyName, after: Duration) -> Timestamp {
    let time = store.now().await.unwrap().plus(after);
    let update = KeyUpdate { scheduled_deactivate_time: Patch::Set(time), ..Default::default() };
    store.update_key(&to_update_key(), name, &update, "").await.unwrap();
    time
}

/// The key whose scheduled deactivation is due at `time`, when it is due.
async fn due(store: &Store, time: Timestamp) -> Vec<Key> {
    while store.now().await.unwrap() <= time {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.due_deactivations(10).await.unwrap()
}

/// Keyward deactivates the key in the name of olga, who has lost every role since.
async fn a_scheduled_deactivation_needs_its_right_only_when_it_is_scheduled(db: &Database) {
    let store = with_mallory(db).await;
    let editor = on_project(Role::Editor, "6666");
    create_member(&store, "olga", std::slice::from_ref(&editor)).await;
    let time = schedule(&store, &key_name("secret"), Duration::from_secs(2)).await;
    let by_root = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    store.revoke_role(&by_root, &member_id("olga"), &editor).await.unwrap();
    let [key] = due(&store, time).await.try_into().unwrap();
    let done = store.deactivate_scheduled(&key).await.unwrap().unwrap();
    assert_eq!(done.key.deactivator, Some(member_id("olga")));
    let found = store.verify_log(None).await.unwrap();
    assert_eq!((found.finding_count, &found.findings[..]), (0, &[][..]));
    // Her own call is refused.
    assert!(
        store
            .activate_key(&Call { permission: Permission::KeyActivate, ..to_update_key() }, &key.name, "")
            .await
            .is_err()
    );
}

/// The writer schedules the deactivation of a key of another project in the name of root, waits for Keyward to carry it out, and
/// removes the deactivation from the row, or leaves it.
async fn a_deactivation_on_a_forged_schedule_has_no_effect_or_is_found(db: &Database) {
    let store = with_mallory(db).await;
    let mut plain = writer(db).await;
    let time = store.now().await.unwrap();
    let forgery = format!(
        "UPDATE api_key SET scheduled_deactivate_time = {}, scheduler = 'root' WHERE project_id = '6666' AND key_id = 'secret'",
        time.as_micros()
    );
    plain.run(&forgery).await;
    let mut committed = Vec::new();
    for key in due(&store, time).await {
        if let Ok(Some(done)) = store.deactivate_scheduled(&key).await {
            committed.push(done.revision);
        }
    }
    let found = store.verify_log(None).await.unwrap();
    assert!(found.finding_count > 0, "the schedule or what it did");
    for revision in committed {
        assert!(is_found(&found, revision, "does not follow"), "{:?}", found.findings);
    }
}

/// The writer moves a key of the project 6666 to 7777, where mallory may reveal tokens, and back.
async fn a_reveal_of_a_key_that_was_moved_to_another_project_has_no_effect_or_is_found(db: &Database) {
    let store = with_mallory(db).await;
    create_key(&store, &key_name("victim")).await;
    let by_root = Call { permission: Permission::MemberUpdate, ..to_create_member("root") };
    store.grant_role(&by_root, &member_id("mallory"), &on_project(Role::Editor, "7777")).await.unwrap();
    let mut plain = writer(db).await;
    plain.run("UPDATE api_key SET project_id = '7777' WHERE key_id = 'victim'").await;
    let reveal = Call {
        permission: Permission::KeyReveal,
        credential: Some(digest("mallory")),
        ..to_create_key("mallory", "7777")
    };
    let revealed = store.reveal_token(&reveal, &key_name_in("7777", "victim")).await;
    let revision = head(&store).await;
    plain.run("UPDATE api_key SET project_id = '6666' WHERE key_id = 'victim'").await;
    let found = store.verify_log(None).await.unwrap();
    assert_eq!(revealed.is_ok(), is_found(&found, revision, "does not follow"), "{:?}", found.findings);
    assert!(revealed.is_ok() || found.finding_count == 0, "{:?}", found.findings);
}

/// The writer makes a deactivated key active for the moment in which the request that created it is repeated.
async fn a_replay_of_a_token_that_the_log_has_ended_has_no_effect_or_is_found(db: &Database) {
    let store = with_mallory(db).await;
    let by_root = Call { credential: Some(digest("root")), ..to_create_key("root", "6666") };
    let create = super::under(by_root, "CreateKey", super::REQUEST, 1);
    let name = key_name("dead");
    store.create_key(&create, &key_draft(name.clone()), &secret("dead")).await.unwrap();
    deactivate_key(&store, &name).await;
    let mut plain = writer(db).await;
    let row = "WHERE key_id = 'dead'";
    let time = plain.number(&format!("SELECT deactivate_time FROM api_key {row}")).await;
    plain.run(&format!("UPDATE api_key SET state = 'active', deactivator = NULL, deactivate_time = NULL {row}")).await;
    let replayed = store.create_key(&create, &key_draft(name), &secret("again")).await;
    let is_replayed = replayed.is_ok_and(|again| matches!(again.secret, IssuedSecret::Replayed(_)));
    let revision = head(&store).await;
    let back = format!("state = 'deactivated', deactivator = 'root', deactivate_time = {time}");
    plain.run(&format!("UPDATE api_key SET {back} {row}")).await;
    let found = store.verify_log(None).await.unwrap();
    assert_eq!(is_replayed, is_found(&found, revision, "does not follow"), "{:?}", found.findings);
    assert!(is_replayed || found.finding_count == 0, "{:?}", found.findings);
}
