//! Members: creation, roles and credentials.

use keyward_domain::{Change, CredentialId, CredentialName, Member, MemberDraft, Permission, Reason, Revision, Role};
use keyward_store::{Call, IssuedSecret, Store};

use super::database::Database;
use super::{
    REQUEST, all_changes, create_member, digest, head, member_draft, member_id, on_all, on_platform, on_project,
    refused, sealed, secret, to_create_member, under,
};

on_all! {
    a_member_has_the_requested_fields,
    a_member_id_is_used_once,
    a_credential_finds_its_member_only,
    roles_are_granted_and_revoked,
    credentials_are_issued_and_revoked,
    the_last_owner_cannot_be_removed,
    a_member_has_a_limited_number_of_roles_and_credentials,
    two_owners_cannot_revoke_each_other,
    a_retried_issue_returns_the_same_credential,
}

async fn a_member_has_the_requested_fields(db: &Database) {
    let store = db.initialized().await;
    let roles = vec![on_project(Role::Viewer, "a"), on_project(Role::Viewer, "B"), on_platform(Role::Support)];
    let draft = MemberDraft::new(member_id("alice"), "Alice Ångström".to_owned(), roles.clone()).unwrap();
    let secret = secret("secret");
    let created = store.create_member(&to_create_member("root"), &draft, &secret).await.unwrap();
    let member = created.member;

    assert_eq!((created.revision, head(&store).await), (Revision(2), Revision(2)));
    assert_eq!(created.secret, IssuedSecret::New);
    assert_eq!((member.id.as_str(), member.display_name.as_str()), ("alice", "Alice Ångström"));
    assert_eq!((member.uid, &member.creator), (secret.uid, &Some(member_id("root"))));
    assert_eq!(member.create_revision, Revision(2));
    assert_eq!(member.roles.len(), roles.len());
    assert!(roles.iter().all(|role| member.roles.contains(role)), "{:?}", member.roles);

    // Every method returns the same member, with its roles in the same order.
    assert_eq!(store.member(&member.id).await.unwrap().as_ref(), Some(&member));
    assert_eq!(store.member_by_credential(&secret.digest).await.unwrap().as_ref(), Some(&member));
    assert_eq!(store.members(Revision(1), 10).await.unwrap(), std::slice::from_ref(&member));
    let last = all_changes(&store).await.pop().unwrap();
    assert_eq!(last.change, Change::MemberCreated { member, credential: secret.digest, digest_key_id: Some(1) });
}

async fn a_member_id_is_used_once(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    let draft = member_draft("alice", &[on_platform(Role::Owner)]);
    let again = store.create_member(&to_create_member("root"), &draft, &secret("again")).await;
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

fn to_change(actor: &str) -> Call {
    Call { permission: Permission::MemberUpdate, ..to_create_member(actor) }
}

fn credential_name(member: &str, of: &str) -> CredentialName {
    CredentialName { member: member_id(member), id: CredentialId::of(&digest(of)) }
}

async fn roles_of(store: &Store, id: &str) -> Member {
    store.member(&member_id(id)).await.unwrap().unwrap()
}

async fn roles_are_granted_and_revoked(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    let (alice, editor) = (member_id("alice"), on_project(Role::Editor, "6666"));
    let granted = store.grant_role(&to_change("root"), &alice, &editor).await.unwrap();
    assert_eq!((granted.revision, &granted.member.roles[..]), (Revision(3), std::slice::from_ref(&editor)));
    let again = store.grant_role(&to_change("root"), &alice, &editor).await.unwrap();
    assert_eq!((again.revision, &again.member), (Revision(3), &granted.member));
    // The same role on another project is another role.
    let elsewhere = store.revoke_role(&to_change("root"), &alice, &on_project(Role::Editor, "7777")).await.unwrap();
    assert_eq!((elsewhere.revision, elsewhere.member.roles.len()), (Revision(3), 1));

    let revoked = store.revoke_role(&to_change("root"), &alice, &editor).await.unwrap();
    assert_eq!((revoked.revision, revoked.member.roles.len()), (Revision(4), 0));
    assert_eq!(roles_of(&store, "alice").await, revoked.member);
    let logged: Vec<_> = all_changes(&store).await.into_iter().skip(2).map(|logged| logged.change).collect();
    let expected = [
        Change::RoleGranted { after: granted.member, role: editor.clone() },
        Change::RoleRevoked { after: revoked.member, role: editor.clone() },
    ];
    assert_eq!(logged, expected);

    let unknown = store.grant_role(&to_change("root"), &member_id("bob"), &editor).await;
    assert_eq!(refused(unknown), Reason::MemberNotFound);
    let by_alice = store.grant_role(&to_change("alice"), &alice, &on_platform(Role::Owner)).await;
    assert_eq!(refused(by_alice), Reason::PermissionDenied);
}

async fn credentials_are_issued_and_revoked(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    let issued = store.issue_credential(&to_change("root"), &member_id("alice"), &secret("second")).await.unwrap();
    assert_eq!(issued.name, credential_name("alice", "second"));
    let names: Vec<_> = issued.changed.credentials.iter().map(|credential| credential.name.clone()).collect();
    assert_eq!(names, [credential_name("alice", "alice"), issued.name.clone()]);
    for of in ["alice", "second"] {
        assert_eq!(store.member_by_credential(&digest(of)).await.unwrap().unwrap().id, member_id("alice"));
    }
    let first = credential_name("alice", "alice");
    let revoked = store.revoke_credential(&to_change("root"), &first).await.unwrap();
    assert_eq!(revoked.credentials, store.credentials(&member_id("alice")).await.unwrap());
    assert_eq!((revoked.revision, revoked.credentials.len()), (Revision(4), 1));
    assert_eq!(store.member_by_credential(&digest("alice")).await.unwrap(), None);
    assert!(store.member_by_credential(&digest("second")).await.unwrap().is_some());
    // A retry, such as after a lost answer.
    let again = store.revoke_credential(&to_change("root"), &first).await.unwrap();
    assert_eq!((again.revision, head(&store).await), (Revision(4), Revision(4)));

    for (name, reason) in [
        (credential_name("alice", "third"), Reason::CredentialNotFound),
        // A credential of another member.
        (credential_name("alice", "root"), Reason::CredentialNotFound),
        (credential_name("bob", "alice"), Reason::MemberNotFound),
    ] {
        assert_eq!(refused(store.revoke_credential(&to_change("root"), &name).await), reason);
    }
}

async fn the_last_owner_cannot_be_removed(db: &Database) {
    let store = db.initialized().await;
    let (root, owner) = (member_id("root"), on_platform(Role::Owner));
    let own = credential_name("root", "root");
    assert_eq!(refused(store.revoke_role(&to_change("root"), &root, &owner).await), Reason::LastOwner);
    assert_eq!(refused(store.revoke_credential(&to_change("root"), &own).await), Reason::LastOwner);
    // An owner without a credential does not count.
    create_member(&store, "alice", std::slice::from_ref(&owner)).await;
    store.revoke_credential(&to_change("root"), &credential_name("alice", "alice")).await.unwrap();
    assert_eq!(refused(store.revoke_role(&to_change("root"), &root, &owner).await), Reason::LastOwner);
    assert_eq!(roles_of(&store, "root").await.roles, std::slice::from_ref(&owner));
    assert!(store.member_by_credential(&digest("root")).await.unwrap().is_some());

    store.issue_credential(&to_change("root"), &member_id("alice"), &secret("again")).await.unwrap();
    store.revoke_role(&to_change("root"), &root, &owner).await.unwrap();
    assert_eq!(roles_of(&store, "root").await.roles, []);
    let call = store.revoke_role(&to_change("alice"), &member_id("alice"), &owner).await;
    assert_eq!(refused(call), Reason::LastOwner);
}

async fn a_member_has_a_limited_number_of_roles_and_credentials(db: &Database) {
    let store = db.initialized().await;
    let roles: Vec<_> = (0..100).map(|n| on_project(Role::Viewer, &n.to_string())).collect();
    create_member(&store, "alice", &roles).await;
    let alice = member_id("alice");
    let one_more = store.grant_role(&to_change("root"), &alice, &on_platform(Role::Support)).await;
    assert_eq!(refused(one_more), Reason::MemberLimitReached);
    for n in 1..20 {
        store.issue_credential(&to_change("root"), &alice, &secret(&format!("c{n}"))).await.unwrap();
    }
    let one_more = store.issue_credential(&to_change("root"), &alice, &secret("c20")).await;
    assert_eq!(refused(one_more), Reason::MemberLimitReached);
    store.revoke_credential(&to_change("root"), &credential_name("alice", "c7")).await.unwrap();
    store.issue_credential(&to_change("root"), &alice, &secret("c20")).await.unwrap();
}

async fn two_owners_cannot_revoke_each_other(db: &Database) {
    let store = db.initialized().await;
    let owner = on_platform(Role::Owner);
    create_member(&store, "alice", std::slice::from_ref(&owner)).await;
    let admins = db.admins(&store).await;
    let (to_root, to_alice) = (to_change("alice"), to_change("root"));
    let (root, alice) = (member_id("root"), member_id("alice"));
    let (one, other) =
        tokio::join!(admins[0].revoke_role(&to_root, &root, &owner), admins[1].revoke_role(&to_alice, &alice, &owner));
    // The second one has lost the role by then, or is the last owner.
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let reason = refused(one.and(other));
    assert!(matches!(reason, Reason::PermissionDenied | Reason::LastOwner), "{reason:?}");
}

async fn a_retried_issue_returns_the_same_credential(db: &Database) {
    let store = db.initialized().await;
    create_member(&store, "alice", &[]).await;
    let call = under(to_change("root"), "IssueCredential", REQUEST, 1);
    let first = store.issue_credential(&call, &member_id("alice"), &secret("second")).await.unwrap();
    let again = store.issue_credential(&call, &member_id("alice"), &secret("third")).await.unwrap();
    assert_eq!((&again.name, again.changed.revision), (&first.name, first.changed.revision));
    assert_eq!((first.secret, again.secret), (IssuedSecret::New, IssuedSecret::Replayed(sealed("second"))));
    assert_eq!(store.credentials(&member_id("alice")).await.unwrap().len(), 2);
    assert_eq!(store.member_by_credential(&digest("third")).await.unwrap(), None);
    let other = under(to_change("root"), "IssueCredential", REQUEST, 2);
    let reused = store.issue_credential(&other, &member_id("alice"), &secret("fourth")).await;
    assert_eq!(refused(reused), Reason::RequestIdReused);
}
