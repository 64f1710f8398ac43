//! The life of a key from creation to deactivation, through the admin API.

use std::time::{Duration, SystemTime};

use keyward_proto::admin::key::State;
use keyward_proto::admin::receipt::EnforcedBy;
use keyward_proto::admin::{
    ActivateKeyRequest, CreateKeyRequest, GetKeyRequest, Key, LookupKeyRequest, RevealTokenRequest, Role, RoleBinding,
    RotateDefaultKeyRequest, RotateDefaultKeyResponse, RotateKeyRequest, RotateKeyResponse, UpdateKeyRequest,
};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, reason, request_id, violation};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::{Serve, write_keyring_without_sealing};
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

fn rotation(new: &str, after: Option<u64>) -> RotateKeyRequest {
    RotateKeyRequest {
        name: NAME.to_owned(),
        new_key_id: new.to_owned(),
        deactivate_old_after: after.map(|seconds| prost_types::Duration { seconds: seconds as i64, nanos: 0 }),
        request_id: request_id(),
    }
}

async fn rotate(admin: &Admin, request: RotateKeyRequest) -> Result<RotateKeyResponse, Status> {
    Ok(admin.keys.clone().rotate_key(request).await?.into_inner())
}

async fn rotate_default(admin: &Admin, name: &str, grace: Option<i64>) -> Result<RotateDefaultKeyResponse, Status> {
    let grace = grace.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let request = RotateDefaultKeyRequest { name: name.to_owned(), grace, request_id: request_id() };
    Ok(admin.keys.clone().rotate_default_key(request).await?.into_inner())
}

/// Creates a member with that role on the deployment, and connects as it.
async fn on_platform(serve: &Serve, admin: &Admin, id: &str, role: Role) -> Admin {
    let binding = RoleBinding { role: role.into(), project: String::new() };
    Admin::connect(serve.admin, &admin.create_member(id, &[binding]).await.unwrap()).await
}

async fn until(client: &ValidatorClient, token: &str, verdict: Verdict) {
    let begun = std::time::Instant::now();
    while client.verdict(token).await != verdict {
        assert!(begun.elapsed() < Duration::from_secs(20), "never {verdict:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn seconds_from_now(seconds: u64) -> Timestamp {
    (SystemTime::now() + Duration::from_secs(seconds)).into()
}

fn refused(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

/// Starts a `serve` with one project and one key. Returns it with root's client and the key's token.
async fn begin() -> (Serve, Admin, String) {
    let serve = Serve::start();
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let token = admin.create_key("6666", "a").await.unwrap().token;
    (serve, admin, token)
}

#[tokio::test]
async fn an_update_changes_exactly_the_fields_of_its_mask() {
    let (_serve, admin, _) = begin().await;
    let annotations = |team: &str| [("team".to_owned(), team.to_owned())].into();
    let named = |key: Key| Key { name: NAME.to_owned(), ..key };
    // Without a mask, the fields that are set are updated.
    let key = named(Key { description: "first".to_owned(), annotations: annotations("edge"), ..Default::default() });
    let done = update(&admin, key, &[]).await.unwrap().key.unwrap();
    assert_eq!((done.description.as_str(), &done.annotations), ("first", &annotations("edge")));
    // With a mask, exactly its fields are updated, including those that are empty in the request.
    let key = named(Key { annotations: annotations("core"), ..Default::default() });
    let done = update(&admin, key.clone(), &["description"]).await.unwrap().key.unwrap();
    assert_eq!((done.description.as_str(), &done.annotations), ("", &annotations("edge")));
    let all = update(&admin, key.clone(), &["*"]).await.unwrap().key.unwrap();
    assert_eq!(all.annotations, annotations("core"));
    // An update without a change takes no revision.
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
async fn an_earlier_expiry_is_fenced_and_can_be_removed() {
    let (serve, admin, token) = begin().await;
    let _edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(serve.validator).await;
    let expiring = |time| Key { name: NAME.to_owned(), expire_time: time, ..Default::default() };
    let done = update(&admin, expiring(Some(seconds_from_now(2))), &[]).await.unwrap();
    let receipt = done.receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
    while client.verdict(&token).await == Verdict::Valid {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.verdict(&token).await, Verdict::Expired);
    update(&admin, expiring(None), &["expire_time"]).await.unwrap();
    assert_eq!(client.verdict(&token).await, Verdict::Valid);

    let past = Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(violation(&update(&admin, expiring(Some(past)), &[]).await.unwrap_err()).0, "key.expire_time");
    let beyond = Timestamp { seconds: i64::MAX, nanos: 0 };
    assert_eq!(violation(&update(&admin, expiring(Some(beyond)), &[]).await.unwrap_err()).0, "key.expire_time");
    let default_key = admin.list("6666", 0).await.unwrap().remove(0);
    let expiring = Key { expire_time: Some(seconds_from_now(60)), ..default_key.clone() };
    let status = update(&admin, expiring, &["expire_time"]).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "DEFAULT_KEY_PROTECTED".to_owned()));
    // The description of the default key can be changed.
    let described = Key { name: default_key.name, description: "ours".to_owned(), ..Default::default() };
    assert_eq!(update(&admin, described, &[]).await.unwrap().key.unwrap().description, "ours");
}

#[tokio::test]
async fn an_activated_key_is_valid_again_with_the_same_token() {
    let (serve, admin, token) = begin().await;
    let client = ValidatorClient::connect(serve.validator).await;
    let dead = admin.deactivate("6666", "a").await.unwrap().key.unwrap();
    assert_eq!(client.verdict(&token).await, Verdict::Deactivated);
    let status = activate(&admin, NAME, "0123456789abcdef").await.unwrap_err();
    assert_eq!(refused(&status), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let alive = activate(&admin, NAME, &dead.etag).await.unwrap();
    assert_eq!(client.verdict(&token).await, Verdict::Valid);
    let key = alive.key.unwrap();
    assert_eq!((key.state(), key.deactivator.as_str(), key.deactivate_time), (State::Active, "", None));
    // A second activation succeeds with any etag and changes nothing.
    let again = activate(&admin, NAME, &dead.etag).await.unwrap();
    assert_eq!(again.receipt.unwrap().revision, alive.receipt.unwrap().revision);
    let receipt = admin.deactivate("6666", "a").await.unwrap().receipt.unwrap();
    assert!(receipt.revision > key.revision);
    assert_eq!(client.verdict(&token).await, Verdict::Deactivated);
    let status = activate(&admin, "projects/6666/keys/nonesuch", "").await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "KEY_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn editors_can_reveal_a_token_and_each_reveal_is_logged() {
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
    assert_eq!(get(&admin, NAME).await, before, "a reveal does not change the key");
    let status = reveal(&viewer, NAME).await.unwrap_err();
    assert_eq!(refused(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    let status = reveal(&editor, "projects/7777/keys/a").await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "KEY_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn without_a_sealing_key_a_token_cannot_be_revealed() {
    let serve = Serve::start_on(write_keyring_without_sealing);
    let admin = Admin::connect(serve.admin, &serve.root()).await;
    admin.create_project("6666").await.unwrap();
    let made = admin.create_key("6666", "once").await.unwrap();
    assert_eq!(ValidatorClient::connect(serve.validator).await.verdict(&made.token).await, Verdict::Valid);
    let status = reveal(&admin, "projects/6666/keys/once").await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "REVEAL_DISABLED".to_owned()));
}

#[tokio::test]
async fn only_support_can_look_up_the_key_of_a_token() {
    let (serve, admin, token) = begin().await;
    let support = on_platform(&serve, &admin, "support", Role::Support).await;
    admin.deactivate("6666", "a").await.unwrap();
    let found = lookup(&support, &token).await.unwrap();
    assert_eq!((found.name.as_str(), found.state()), (NAME, State::Deactivated));
    // Spaces and line ends, as a token copied from a log or a page has, are ignored.
    assert_eq!(lookup(&support, &format!(" {token}\n")).await.unwrap().name, NAME);
    let status = lookup(&admin, &token).await.unwrap_err();
    assert_eq!(
        refused(&status),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()),
        "owners do not have this right"
    );
    let unknown = keyward_token::Token::generate(&Default::default(), keyward_token::TokenKind::Server).unwrap();
    let status = lookup(&support, unknown.expose()).await.unwrap_err();
    assert_eq!(refused(&status), (Code::NotFound, "TOKEN_UNKNOWN".to_owned()));
    for bad in ["", "hunter2", &token[..token.len() - 1], &serve.root()] {
        let status = lookup(&support, bad).await.unwrap_err();
        assert_eq!(violation(&status).0, "token");
        assert!(bad.is_empty() || !status.message().contains(bad), "{status:?}");
    }
}

/// The rotation runbook: create the replacement, use both keys, deactivate the old one on schedule. The process
/// restarts in between.
#[tokio::test]
async fn a_rotated_key_and_its_replacement_are_both_valid_until_the_scheduled_deactivation() {
    let (serve, admin, old_token) = begin().await;
    let described = Key { name: NAME.to_owned(), description: "the shop".to_owned(), ..Default::default() };
    update(&admin, described, &[]).await.unwrap();
    let request = rotation("a_2", Some(4));
    let done = rotate(&admin, request.clone()).await.unwrap();
    let (new, old) = (done.key.unwrap(), done.old_key.unwrap());
    assert_eq!(
        (new.name.as_str(), new.replaces.as_str(), new.replaced_by.as_str()),
        ("projects/6666/keys/a_2", NAME, "")
    );
    assert_eq!((old.replaces.as_str(), old.replaced_by.as_str()), ("", "projects/6666/keys/a_2"));
    assert_eq!((new.description.as_str(), new.state(), old.state()), ("the shop", State::Active, State::Active));
    let end = SystemTime::try_from(old.scheduled_deactivate_time.unwrap()).unwrap();
    assert!(end > SystemTime::now() && end < SystemTime::now() + Duration::from_secs(5));
    // A retry returns the same key and the same token.
    let again = rotate(&admin, request).await.unwrap();
    assert_eq!((again.key.unwrap().uid, again.token.as_str()), (new.uid, done.token.as_str()));
    let client = ValidatorClient::connect(serve.validator).await;
    for token in [&old_token, &done.token] {
        assert_eq!(client.verdict(token).await, Verdict::Valid, "both tokens are valid");
    }
    let serve = serve.restart(true);
    let (admin, client) =
        (Admin::connect(serve.admin, &serve.root()).await, ValidatorClient::connect(serve.validator).await);
    until(&client, &old_token, Verdict::Deactivated).await;
    assert_eq!(client.verdict(&done.token).await, Verdict::Valid);
    let old = get(&admin, NAME).await;
    assert_eq!((old.state(), old.deactivator.as_str()), (State::Deactivated, "members/root"));
    assert!(
        SystemTime::try_from(old.deactivate_time.unwrap()).unwrap() >= end,
        "deactivated before the scheduled time"
    );
    assert_eq!(old.scheduled_deactivate_time, None);
    // The schedule does not act again: the revision stays.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(get(&admin, NAME).await.revision, old.revision);
}

#[tokio::test]
async fn an_invalid_rotation_is_refused() {
    let (_serve, admin, _) = begin().await;
    let status = rotate(&admin, rotation("a", None)).await.unwrap_err();
    assert_eq!(refused(&status), (Code::AlreadyExists, "KEY_NAME_TAKEN".to_owned()));
    for (request, field) in [
        (rotation("a-2", None), "new_key_id"),
        (rotation("a_2", Some(0)), "deactivate_old_after"),
        (rotation("a_2", Some(366 * 86_400)), "deactivate_old_after"),
        (RotateKeyRequest { name: "a".to_owned(), ..rotation("a_2", None) }, "name"),
    ] {
        assert_eq!(violation(&rotate(&admin, request).await.unwrap_err()).0, field);
    }
    let default_key = admin.list("6666", 0).await.unwrap().remove(0).name;
    let request = RotateKeyRequest { name: default_key, ..rotation("a_2", None) };
    let status = rotate(&admin, request).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "DEFAULT_KEY_PROTECTED".to_owned()));
    rotate(&admin, rotation("a_2", None)).await.unwrap();
    let status = rotate(&admin, rotation("a_3", None)).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "KEY_REPLACED".to_owned()));
    admin.deactivate("6666", "a_2").await.unwrap();
    let request = RotateKeyRequest { name: "projects/6666/keys/a_2".to_owned(), ..rotation("a_3", None) };
    let status = rotate(&admin, request).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "KEY_DEACTIVATED".to_owned()));
}

#[tokio::test]
async fn a_scheduled_deactivation_can_be_set_moved_and_cleared() {
    let (serve, admin, token) = begin().await;
    let client = ValidatorClient::connect(serve.validator).await;
    let ending = |time| Key { name: NAME.to_owned(), scheduled_deactivate_time: time, ..Default::default() };
    update(&admin, ending(Some(seconds_from_now(2))), &[]).await.unwrap();
    let key = update(&admin, ending(None), &["scheduled_deactivate_time"]).await.unwrap().key.unwrap();
    assert_eq!(key.scheduled_deactivate_time, None);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(client.verdict(&token).await, Verdict::Valid, "the schedule was cleared");
    update(&admin, ending(Some(seconds_from_now(1))), &[]).await.unwrap();
    until(&client, &token, Verdict::Deactivated).await;
    let status = update(&admin, ending(Some(seconds_from_now(60))), &[]).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "KEY_DEACTIVATED".to_owned()));
    let key = activate(&admin, NAME, "").await.unwrap().key.unwrap();
    assert_eq!((key.state(), key.scheduled_deactivate_time), (State::Active, None));
    // A key that is activated before its scheduled deactivation must stay active.
    update(&admin, ending(Some(seconds_from_now(1))), &[]).await.unwrap();
    let key = activate(&admin, NAME, "").await.unwrap().key.unwrap();
    assert_eq!((key.state(), key.scheduled_deactivate_time), (State::Active, None));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.verdict(&token).await, Verdict::Valid, "the cleared schedule acted");
    let default_key = admin.list("6666", 0).await.unwrap().remove(0);
    let ending = Key { scheduled_deactivate_time: Some(seconds_from_now(60)), ..default_key };
    let status = update(&admin, ending, &["scheduled_deactivate_time"]).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "DEFAULT_KEY_PROTECTED".to_owned()));
}

/// Both admins poll for scheduled deactivations; each deactivation is done by one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_perform_each_scheduled_deactivation_exactly_once() {
    const KEYS: usize = 20;
    let cluster = Cluster::start(&["--lease", "2s"]);
    let processes = [cluster.admin("a1"), cluster.admin("a2")];
    let admin = Admin::connect(processes[0].at, &cluster.root()).await;
    admin.create_project("6666").await.unwrap();
    let end = Some(seconds_from_now(3));
    for n in 0..KEYS {
        let name = admin.create_key("6666", &format!("k{n}")).await.unwrap().key.unwrap().name;
        let key = Key { name, scheduled_deactivate_time: end, ..Default::default() };
        update(&admin, key, &["scheduled_deactivate_time"]).await.unwrap();
    }
    let deactivated = |keys: &[Key]| keys.iter().filter(|key| key.state() == State::Deactivated).count();
    while deactivated(&admin.list("6666", 0).await.unwrap()) < KEYS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let head = admin.create_key("6666", "head").await.unwrap().receipt.unwrap().revision;
    // The changes: root, the admins' own member, the project; for each key its creation, schedule and deactivation; and
    // this call's own.
    assert_eq!(head, 3 + 3 * KEYS as i64 + 1);
    let log = processes.map(|process| process.process.log());
    let deactivations = log.map(|log| log.lines().filter(|line| line.contains("deactivated on schedule")).count());
    assert_eq!(deactivations[0] + deactivations[1], KEYS, "{deactivations:?}");
}

#[tokio::test]
async fn only_support_rotates_a_default_key_and_its_old_token_is_refused_at_once() {
    let (serve, admin, _) = begin().await;
    let _edge = serve.spawn_validator("edge");
    let client = ValidatorClient::connect(serve.validator).await;
    let support = on_platform(&serve, &admin, "support", Role::Support).await;
    let name = admin.list("6666", 0).await.unwrap().remove(0).name;
    let old_token = reveal(&admin, &name).await.unwrap();
    let status = rotate_default(&admin, &name, None).await.unwrap_err();
    assert_eq!(
        refused(&status),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()),
        "owners do not have this right"
    );
    let done = rotate_default(&support, &name, None).await.unwrap();
    let receipt = done.receipt.unwrap();
    assert_eq!((receipt.enforced_by(), receipt.validators_acked), (EnforcedBy::Acks, 2), "{receipt:?}");
    assert_eq!(done.token, "", "an editor of the project reveals it");
    assert_eq!(client.verdict(&old_token).await, Verdict::Deactivated);
    let key = done.key.unwrap();
    assert_eq!((key.name.as_str(), key.state()), (name.as_str(), State::Active));
    let status = reveal(&support, &name).await.unwrap_err();
    assert_eq!(refused(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    let new_token = reveal(&admin, &name).await.unwrap();
    assert_ne!(new_token, old_token);
    assert_eq!(client.verdict(&new_token).await, Verdict::Valid);
    assert!(new_token.ends_with(
        key.masked_token.chars().rev().take(4).collect::<String>().chars().rev().collect::<String>().as_str()
    ));
    assert_eq!(lookup(&support, &old_token).await.unwrap().name, name, "a superseded token still finds its key");

    // With a grace period both tokens are accepted, and a retry does not rotate again.
    let grace = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let request = RotateDefaultKeyRequest { name: name.clone(), grace, request_id: request_id() };
    let first = support.keys.clone().rotate_default_key(request.clone()).await.unwrap().into_inner().key.unwrap();
    let again = support.keys.clone().rotate_default_key(request).await.unwrap().into_inner().key.unwrap();
    assert_eq!(first.revision, again.revision);
    let newest = reveal(&admin, &name).await.unwrap();
    assert_eq!((client.verdict(&new_token).await, client.verdict(&newest).await), (Verdict::Valid, Verdict::Valid));
    until(&client, &new_token, Verdict::Deactivated).await;
    assert_eq!(client.verdict(&newest).await, Verdict::Valid);
    let status = rotate_default(&support, NAME, None).await.unwrap_err();
    assert_eq!(violation(&status).0, "name");
    assert_eq!(violation(&rotate_default(&support, &name, Some(-1)).await.unwrap_err()).0, "grace");
}

/// No method creates a key with a name of the default key's pattern.
#[tokio::test]
async fn a_rotation_cannot_take_a_default_keys_name() {
    let (_serve, admin, _) = begin().await;
    for new in ["6666_default_000000", "x_default_1"] {
        let status = rotate(&admin, rotation(new, None)).await.unwrap_err();
        assert_eq!(refused(&status), (Code::InvalidArgument, "KEY_NAME_RESERVED".to_owned()));
    }
    let request = CreateKeyRequest {
        parent: "projects/6666".to_owned(),
        key_id: "b".to_owned(),
        key: Some(Key { replaces: NAME.to_owned(), ..Default::default() }),
        request_id: String::new(),
    };
    assert_eq!(
        violation(&admin.keys.clone().create_key(request).await.unwrap_err()).0,
        "key",
        "replaces and replaced_by are set by the server"
    );
}
