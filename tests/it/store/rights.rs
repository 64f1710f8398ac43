//! VerifyLog replays permissions: a writer with access to the database, without the keyring and with a member's credential,
//! cannot act by a row that the log does not imply and remove the row afterwards.

use keyward_domain::{Error, Permission, Role};
use keyward_store::{Call, Store, Verification};

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

/// Tries each kind of change as `actor` with the credential that the test knows by the name `credential`. Returns how many
/// were committed.
async fn acts(store: &Store, actor: &str, credential: &str) -> u64 {
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
    let committed = (head(store).await.0 - before.0).unsigned_abs();
    assert_eq!(attempts.iter().filter(|attempt| attempt.is_ok()).count() as u64, committed);
    committed
}

/// Every committed act is a finding, and names the missing right.
#[track_caller]
fn assert_all_found(found: &Verification, committed: u64) {
    let by_right = found.findings.iter().filter(|finding| finding.problem.contains("right")).count();
    assert!(by_right as u64 >= committed, "{committed} acts were committed: {:?}", found.findings);
    assert!(committed > 0 || found.finding_count == 0, "{:?}", found.findings);
}

async fn acts_by_a_role_that_the_log_does_not_grant_have_no_effect_or_are_found(db: &Database) {
    let store = with_mallory(db).await;
    let mut plain = writer(db).await;
    for (role, project) in [("owner", ""), ("editor", "6666")] {
        let insert = "INSERT INTO role_binding (member_id, role, project_id) VALUES";
        plain.run(&format!("{insert} ('mallory', '{role}', '{project}')")).await;
        let before = store.verify_log(None).await.unwrap().finding_count;
        assert!(before > 0);
        let committed = acts(&store, "mallory", "mallory").await;
        plain.run(&format!("DELETE FROM role_binding WHERE member_id = 'mallory' AND role = '{role}'")).await;
        assert_all_found(&store.verify_log(None).await.unwrap(), committed);
        if committed > 0 {
            return;
        }
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
    assert_all_found(&store.verify_log(None).await.unwrap(), committed);
}

async fn acts_by_a_credential_of_another_member_have_no_effect_or_are_found(db: &Database) {
    let store = with_mallory(db).await;
    let mut plain = writer(db).await;
    let row = format!("WHERE digest = {}", literal(&plain, "mallory"));
    plain.run(&format!("UPDATE credential SET member_id = 'root' {row}")).await;
    let committed = acts(&store, "root", "mallory").await;
    plain.run(&format!("UPDATE credential SET member_id = 'mallory' {row}")).await;
    assert_all_found(&store.verify_log(None).await.unwrap(), committed);
}

/// A right counts up to the revision that takes it away, also for the change that takes it away.
async fn acts_with_a_right_at_their_revision_are_intact(db: &Database) {
    let store = with_mallory(db).await;
    create_member(&store, "olga", &[on_platform(Role::Owner), on_project(Role::Editor, "6666")]).await;
    assert!(acts(&store, "olga", "olga").await >= 8);
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
