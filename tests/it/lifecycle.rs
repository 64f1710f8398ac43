//! What happens to keys between their creation and their end, through the front door.

use std::time::{Duration, SystemTime};

use keyward_proto::admin::key::State;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    ActivateKeyRequest, GetKeyRequest, Key, LookupKeyRequest, RevealTokenRequest, Role, RoleBinding, UpdateKeyRequest,
};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, Asker, reason, violation};
use keyward_tests::keyward::Serve;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

const NAME: &str = "projects/6666/keys/a";

async fn update(admin: &Admin, key: Key, paths: &[&str]) -> Result<keyward_proto::admin::UpdateKeyResponse, Status> {
    let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    Ok(admin.keys.clone().update_key(UpdateKeyRequest { key: Some(key), update_mask }).await?.into_inner())
}

async fn activate(admin: &Admin, name: &str, etag: &str) -> Result<keyward_proto::admin::ActivateKeyResponse, Status> {
    let request = ActivateKeyRequest { name: name.to_owned(), etag: etag.to_owned() };
    Ok(admin.keys.clone().activate_key(request).await?.into_inner())
}

async fn reveal(admin: &Admin, name: &str) -> Result<String, Status> {
    Ok(admin.keys.clone().reveal_token(RevealTokenRequest { name: name.to_owned() }).await?.into_inner().token)
}

async fn lookup(admin: &Admin, token: &str) -> Result<Key, Status> {
    let request = LookupKeyRequest { token: token.to_owned() };
    Ok(admin.keys.clone().lookup_key(request).await?.into_inner().key.unwrap())
}

async fn get(admin: &Admin, name: &str) -> Key {
    let request = GetKeyRequest { name: name.to_owned() };
    admin.keys.clone().get_key(request).await.unwrap().into_inner().key.unwrap()
}

fn seconds_from_now(seconds: u64) -> Timestamp {
    (SystemTime::now() + Duration::from_secs(seconds)).into()
}

fn refused(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

/// A project with one key, and root.
async fn begin() -> (Serve, Admin, String) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    (serve, admin, token)
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_nothing_else() {
    let (_serve, admin, _) = begin().await;
    let annotations = |team: &str| [("team".to_owned(), team.to_owned())].into();
    let named = |key: Key| Key { name: NAME.to_owned(), ..key };
    // Without a mask: what is set.
    let key = named(Key { description: "first".to_owned(), annotations: annotations("edge"), ..Default::default() });
    let done = update(&admin, key, &[]).await.unwrap().key.unwrap();
    assert_eq!((done.description.as_str(), &done.annotations), ("first", &annotations("edge")));
    // With one: what it names, also where that is empty.
    let key = named(Key { annotations: annotations("core"), ..Default::default() });
    let done = update(&admin, key.clone(), &["description"]).await.unwrap().key.unwrap();
    assert_eq!((done.description.as_str(), &done.annotations), ("", &annotations("edge")));
    let all = update(&admin, key.clone(), &["*"]).await.unwrap().key.unwrap();
    assert_eq!(all.annotations, annotations("core"));
    // The same again is no change: no revision is taken.
    let again = update(&admin, key, &["*"]).await.unwrap().key.unwrap();
    assert_eq!((again.revision, &again.etag), (all.revision, &all.etag));
    assert_eq!(get(&admin, NAME).await.annotations, annotations("core"));

    let plain = || named(Key::default());
    assert_eq!(violation(&update(&admin, plain(), &["state"]).await.unwrap_err()).0, "update_mask");
    let long = named(Key { description: "x".repeat(257), ..Default::default() });
    assert_eq!(violation(&update(&admin, long, &[]).await.unwrap_err()).0, "key.description");
    assert_eq!(violation(&update(&admin, Key::default(), &[]).await.unwrap_err()).0, "key.name");
    let stale = named(Key { description: "x".to_owned(), etag: "0123456789abcdef".to_owned(), ..Default::default() });
    let status = update(&admin, stale, &[]).await.unwrap_err();
    assert_eq!(refused(&status), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let fresh = named(Key { description: "x".to_owned(), etag: all.etag, ..Default::default() });
    assert_eq!(update(&admin, fresh, &[]).await.unwrap().key.unwrap().description, "x");
}

#[tokio::test]
async fn an_earlier_expiry_is_enforced_like_a_deactivation_and_can_be_taken_back() {
    let (serve, admin, token) = begin().await;
    let _edge = serve.spawn_validator("edge");
    let asker = Asker::connect(serve.validator).await;
    let expiring = |time| Key { name: NAME.to_owned(), expire_time: time, ..Default::default() };
    let done = update(&admin, expiring(Some(seconds_from_now(2))), &[]).await.unwrap();
    let receipt = done.receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
    while asker.verdict(&token).await == Verdict::Valid {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(asker.verdict(&token).await, Verdict::Expired);
    update(&admin, expiring(None), &["expire_time"]).await.unwrap();
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);

    let past = Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(violation(&update(&admin, expiring(Some(past)), &[]).await.unwrap_err()).0, "key.expire_time");
    let beyond = Timestamp { seconds: i64::MAX, nanos: 0 };
    assert_eq!(violation(&update(&admin, expiring(Some(beyond)), &[]).await.unwrap_err()).0, "key.expire_time");
    let default_key = admin.list("6666", 0).await.unwrap().remove(0);
    let expiring = Key { expire_time: Some(seconds_from_now(60)), ..default_key.clone() };
    let status = update(&admin, expiring, &["expire_time"]).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "DEFAULT_KEY_PROTECTED".to_owned()));
    // What it says may be changed.
    let described = Key { name: default_key.name, description: "ours".to_owned(), ..Default::default() };
    assert_eq!(update(&admin, described, &[]).await.unwrap().key.unwrap().description, "ours");
}

#[tokio::test]
async fn a_mistaken_deactivation_is_undone_with_the_same_token() {
    let (serve, admin, token) = begin().await;
    let asker = Asker::connect(serve.validator).await;
    let dead = admin.deactivate("6666", "a").await.unwrap().key.unwrap();
    assert_eq!(asker.verdict(&token).await, Verdict::Deactivated);
    let status = activate(&admin, NAME, "0123456789abcdef").await.unwrap_err();
    assert_eq!(refused(&status), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let alive = activate(&admin, NAME, &dead.etag).await.unwrap();
    assert_eq!(asker.verdict(&token).await, Verdict::Valid);
    let key = alive.key.unwrap();
    assert_eq!((key.state(), key.deactivator.as_str(), key.deactivate_time), (State::Active, "", None));
    // Again, whatever the etag: nothing changes.
    let again = activate(&admin, NAME, &dead.etag).await.unwrap();
    assert_eq!(again.receipt.unwrap().revision, alive.receipt.unwrap().revision);
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert!(receipt.revision > key.revision);
    assert_eq!(asker.verdict(&token).await, Verdict::Deactivated);
    let status = activate(&admin, "projects/6666/keys/nonesuch", "").await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "KEY_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_token_is_revealed_to_editors_and_each_reveal_is_in_the_log() {
    let (serve, admin, token) = begin().await;
    let on = |role: Role| RoleBinding { role: role.into(), project: "projects/6666".to_owned() };
    let editor = admin.create_member("editor", &[on(Role::Editor)]).await.unwrap();
    let viewer = admin.create_member("viewer", &[on(Role::Viewer)]).await.unwrap();
    let editor = Admin::connect(serve.admin, &editor).await;
    let viewer = Admin::connect(serve.admin, &viewer).await;
    let before = get(&admin, NAME).await;
    let head = admin.create_key("6666", "head").await.unwrap().receipt.unwrap().revision;
    assert_eq!(reveal(&editor, NAME).await.unwrap(), token);
    let after = admin.create_key("6666", "head2").await.unwrap().receipt.unwrap().revision;
    assert_eq!(after, head + 2, "the reveal has a revision of its own");
    assert_eq!(get(&admin, NAME).await, before, "and changes nothing");
    let status = reveal(&viewer, NAME).await.unwrap_err();
    assert_eq!(refused(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    let status = reveal(&editor, "projects/7777/keys/a").await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "KEY_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn without_a_sealing_key_a_token_is_shown_once_and_never_again() {
    let serve = Serve::start_on(|data_dir| {
        let keyring = keyward_token::Keyring::generate().unwrap().render();
        let digests: Vec<_> = keyring.lines().filter(|line| !line.starts_with("sealing")).collect();
        assert!(digests.len() < keyring.lines().count());
        std::fs::write(data_dir.join("keyring"), digests.join("\n") + "\n").unwrap();
    });
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let made = admin.create_key("6666", "once").await.unwrap();
    assert_eq!(Asker::connect(serve.validator).await.verdict(&made.token).await, Verdict::Valid);
    let status = reveal(&admin, "projects/6666/keys/once").await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "REVEAL_DISABLED".to_owned()));
}

#[tokio::test]
async fn support_and_nobody_else_learns_whose_a_found_token_is() {
    let (serve, admin, token) = begin().await;
    let support = RoleBinding { role: Role::Support.into(), project: String::new() };
    let support = admin.create_member("support", &[support]).await.unwrap();
    let support = Admin::connect(serve.admin, &support).await;
    admin.deactivate("6666", "a").await.unwrap();
    let found = lookup(&support, &token).await.unwrap();
    assert_eq!((found.name.as_str(), found.state()), (NAME, State::Deactivated));
    // As it is copied out of a log or a page.
    assert_eq!(lookup(&support, &format!(" {token}\n")).await.unwrap().name, NAME);
    let status = lookup(&admin, &token).await.unwrap_err();
    assert_eq!(refused(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()), "withheld from owners");
    let stranger = keyward_token::Token::generate(&Default::default(), keyward_token::TokenKind::Server).unwrap();
    let status = lookup(&support, stranger.expose()).await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "TOKEN_UNKNOWN".to_owned()));
    for bad in ["", "hunter2", &token[..token.len() - 1], &serve.root()] {
        let status = lookup(&support, bad).await.unwrap_err();
        assert_eq!(violation(&status).0, "token");
        assert!(bad.is_empty() || !status.message().contains(bad), "{status:?}");
    }
}
