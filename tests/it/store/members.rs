//! Creating members.

use keyward_domain::{Change, MemberDraft, Reason, Revision, Role};

use super::database::Database;
use super::{
    all_changes, create_member, digest, head, member_draft, member_id, mint, on_all, on_platform, on_project, refused,
    to_create_member,
};

on_all! {
    a_member_is_as_it_was_asked_for,
    a_member_id_is_given_once,
    a_credential_finds_its_member_only,
}

async fn a_member_is_as_it_was_asked_for(db: &Database) {
    let store = db.initialized().await;
    let roles = vec![on_project(Role::Viewer, "a"), on_project(Role::Viewer, "B"), on_platform(Role::Support)];
    let draft = MemberDraft::parse("alice", "Alice Ångström".to_owned(), roles.clone()).unwrap();
    let mint = mint("secret");
    let created = store.create_member(&to_create_member("root"), &draft, &mint).await.unwrap();
    let member = created.member;

    assert_eq!((created.revision, head(&store).await), (Revision(2), Revision(2)));
    assert!(created.replayed.is_none());
    assert_eq!((member.id.as_str(), member.display_name.as_str()), ("alice", "Alice Ångström"));
    assert_eq!((member.uid, &member.creator), (mint.uid, &Some(member_id("root"))));
    assert_eq!(member.create_revision, Revision(2));
    assert_eq!(member.roles.len(), roles.len());
    assert!(roles.iter().all(|role| member.roles.contains(role)), "{:?}", member.roles);

    // The same in every answer, the roles' order included.
    assert_eq!(store.member(&member.id).await.unwrap().as_ref(), Some(&member));
    assert_eq!(store.member_by_credential(&mint.digest).await.unwrap().as_ref(), Some(&member));
    assert_eq!(store.members(Revision(1), 10).await.unwrap(), std::slice::from_ref(&member));
    let last = all_changes(&store).await.pop().unwrap();
    assert_eq!(last.change, Change::MemberCreated { member, credential: mint.digest });
}

async fn a_member_id_is_given_once(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    let draft = member_draft("alice", &[on_platform(Role::Owner)]);
    let again = store.create_member(&to_create_member("root"), &draft, &mint("again")).await;
    assert_eq!(refused(again), Reason::MemberIdTaken);
    assert_eq!(head(&store).await, Revision(2));
    assert_eq!(store.member(&member_id("alice")).await.unwrap().unwrap().roles, []);
    assert_eq!(store.member_by_credential(&digest("again")).await.unwrap(), None);
}

async fn a_credential_finds_its_member_only(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    create_member(&store, "bob", &[]).await;
    for id in ["root", "alice", "bob"] {
        let member = store.member_by_credential(&digest(id)).await.unwrap().unwrap();
        assert_eq!(member.id.as_str(), id);
    }
    assert_eq!(store.member_by_credential(&digest("carol")).await.unwrap(), None);
    assert_eq!(store.member(&member_id("carol")).await.unwrap(), None);
}
