//! Two complete scenarios: a scheduled key rotation, and the protection of the default key.

use std::time::{Duration, SystemTime};

use keyward_proto::admin::event::Type;
use keyward_proto::admin::key::State;
use keyward_proto::admin::{
    CreateKeyRequest, Event, GetKeyRequest, Key, ListEventsRequest, Role, RotateDefaultKeyRequest, RotateKeyRequest,
    UpdateKeyRequest,
};
use keyward_proto::validate::Verdict;
use keyward_tests::client::{Admin, ValidatorClient, on_platform, on_project, reason};
use keyward_tests::cluster::Cluster;
use keyward_tests::keyward::Serve;
use prost_types::{FieldMask, Timestamp};

const OLD: &str = "projects/6666/keys/server_prod";
const NEW: &str = "projects/6666/keys/server_prod_2";

async fn get(admin: &Admin, name: &str) -> Key {
    let request = GetKeyRequest { name: name.to_owned() };
    admin.keys.clone().get_key(request).await.unwrap().into_inner().key.unwrap()
}

async fn until(client: &ValidatorClient, token: &str, verdict: Verdict) {
    let begun = std::time::Instant::now();
    // A validator that moves to another admin may be unavailable for a moment.
    while !client.validate(token).await.is_ok_and(|answer| answer.verdict() == verdict) {
        assert!(begun.elapsed() < Duration::from_secs(30), "never {verdict:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the events of a key, oldest first.
async fn history(admin: &Admin, name: &str) -> Vec<Event> {
    let filter = format!("resource = {name}");
    let request = ListEventsRequest { parent: "projects/6666".to_owned(), filter, ..Default::default() };
    let mut events = admin.audit.clone().list_events(request).await.unwrap().into_inner().events;
    events.reverse();
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_deactivation_happens_exactly_once_with_two_admins_and_a_restart_of_one() {
    let cluster = Cluster::start(&["--lease", "2s"]);
    let (mut first, second) = (cluster.admin("first"), cluster.admin("second"));
    let root = Admin::connect(second.at, &cluster.root()).await;
    root.create_project("6666").await.unwrap();
    let edge = cluster.validator("edge", &second, &[first.at, second.at]);
    let client = ValidatorClient::connect(edge.grpc).await;
    let alice = root.create_member("alice", &[on_project(Role::Editor, "6666")]).await.unwrap();
    let alice = Admin::connect(second.at, &alice).await;
    let old_token = alice.create_key("6666", "server_prod").await.unwrap().token;

    // Create the replacement and schedule the deactivation of the old key.
    let request = RotateKeyRequest {
        name: OLD.to_owned(),
        new_key_id: "server_prod_2".to_owned(),
        deactivate_old_after: Some(prost_types::Duration { seconds: 6, nanos: 0 }),
        request_id: String::new(),
    };
    let rotated = alice.keys.clone().rotate_key(request).await.unwrap().into_inner();
    let new_token = rotated.token;
    let end = SystemTime::try_from(rotated.old_key.unwrap().scheduled_deactivate_time.unwrap()).unwrap();

    // Both tokens are accepted.
    for token in [&old_token, &new_token] {
        until(&client, token, Verdict::Valid).await;
    }
    assert!(SystemTime::now() < end, "this machine is too slow for this test");

    // One admin is killed and replaced before the scheduled time.
    first.process.kill();
    let third = cluster.admin("third");

    // At the scheduled time the old token is refused; the new one is still accepted.
    until(&client, &old_token, Verdict::Deactivated).await;
    assert!(SystemTime::now() >= end, "deactivated before the scheduled time");
    until(&client, &new_token, Verdict::Valid).await;

    // The links between the keys and the log show one deactivation, by the member who scheduled it.
    let (old, new) = (get(&root, OLD).await, get(&root, NEW).await);
    assert_eq!((old.replaced_by.as_str(), new.replaces.as_str()), (NEW, OLD));
    assert_eq!((old.state(), new.state()), (State::Deactivated, State::Active));
    assert_eq!((old.deactivator.as_str(), old.scheduled_deactivate_time), ("members/alice", None));
    let log: Vec<_> = history(&root, OLD).await.iter().map(|e| (e.r#type(), e.actor.clone())).collect();
    let alice = || "members/alice".to_owned();
    assert_eq!(log, [(Type::KeyCreated, alice()), (Type::KeyDeactivated, alice())]);
    let rotation = history(&root, NEW).await.remove(0);
    assert_eq!((rotation.r#type(), rotation.related), (Type::KeyRotated, vec![OLD.to_owned()]));
    let deactivations =
        [&second, &third].map(|admin| admin.process.log().matches("key deactivated on schedule").count());
    assert_eq!(deactivations[0] + deactivations[1], 1, "{deactivations:?}");
    // No further change follows.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(get(&root, OLD).await.revision, old.revision);
}

async fn update(admin: &Admin, key: Key, path: &str) -> Result<Key, tonic::Status> {
    let update_mask = (!path.is_empty()).then(|| FieldMask { paths: vec![path.to_owned()] });
    let request = UpdateKeyRequest { key: Some(key), update_mask };
    Ok(admin.keys.clone().update_key(request).await?.into_inner().key.unwrap())
}

#[tokio::test]
async fn the_default_key_cannot_be_disabled_by_any_method() {
    let serve = Serve::start();
    let root = Admin::connect(serve.admin, &serve.root()).await;
    let created = root.create_project("6666").await.unwrap();
    let (key, token) = (created.default_key.unwrap(), created.default_token);
    let (name, id) = (key.name.clone(), key.name.rsplit('/').next().unwrap().to_owned());
    let later: Timestamp = (SystemTime::now() + Duration::from_secs(3_600)).into();
    let protected = |status: tonic::Status| assert_eq!(reason(&status), "DEFAULT_KEY_PROTECTED", "{status:?}");

    // Deactivation, with and without an etag.
    protected(root.deactivate("6666", &id).await.unwrap_err());
    // Expiry and schedule, with each kind of update mask.
    for path in ["expire_time", "*", ""] {
        let expiring = Key { name: name.clone(), expire_time: Some(later), ..Default::default() };
        protected(update(&root, expiring, path).await.unwrap_err());
    }
    for path in ["scheduled_deactivate_time", "*", ""] {
        let ending = Key { name: name.clone(), scheduled_deactivate_time: Some(later), ..Default::default() };
        protected(update(&root, ending, path).await.unwrap_err());
    }
    // Output-only fields.
    for path in ["state", "default_key", "name", "masked_token", "key.state"] {
        let other = Key { name: name.clone(), state: State::Deactivated.into(), ..Default::default() };
        let status = update(&root, other, path).await.unwrap_err();
        assert_eq!(reason(&status), "FIELD_INVALID", "{path}");
    }
    // RotateKey, with and without a deactivation of the old key.
    for after in [None, Some(prost_types::Duration { seconds: 1, nanos: 0 })] {
        let new_key_id = "another".to_owned();
        let rotate =
            RotateKeyRequest { name: name.clone(), new_key_id, deactivate_old_after: after, ..Default::default() };
        protected(root.keys.clone().rotate_key(rotate).await.unwrap_err());
    }
    // RotateDefaultKey by members without the role support.
    let editor = root.create_member("editor", &[on_project(Role::Editor, "6666")]).await.unwrap();
    for member in [Admin::connect(serve.admin, &editor).await, root.clone()] {
        let rotate = RotateDefaultKeyRequest { name: name.clone(), ..Default::default() };
        let status = member.keys.clone().rotate_default_key(rotate).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED");
    }
    // Names that follow the default key's pattern, in this project and in another.
    root.create_project("7777").await.unwrap();
    for (project, key_id) in [("6666", "6666_default_1"), ("6666", "7777_default_193444"), ("7777", id.as_str())] {
        let parent = format!("projects/{project}");
        let create = CreateKeyRequest { parent, key_id: key_id.to_owned(), ..Default::default() };
        let status = root.keys.clone().create_key(create).await.unwrap_err();
        assert_eq!(reason(&status), "KEY_NAME_RESERVED", "{project} {key_id}");
    }

    // Only its descriptive fields can be changed, and nothing else has changed so far.
    let described = Key { name: name.clone(), description: "new".to_owned(), ..Default::default() };
    let now = update(&root, described, "*").await.unwrap();
    assert_eq!(
        (now.state(), now.uid, now.expire_time, now.scheduled_deactivate_time, now.masked_token),
        (State::Active, key.uid, None, None, key.masked_token)
    );
    assert_eq!(ValidatorClient::connect(serve.validator).await.verdict(&token).await, Verdict::Valid);

    // The role support rotates it. The verdict on the superseded token is DEACTIVATED.
    let support = root.create_member("support", &[on_platform(Role::Support)]).await.unwrap();
    let support = Admin::connect(serve.admin, &support).await;
    let rotate = RotateDefaultKeyRequest { name, ..Default::default() };
    support.keys.clone().rotate_default_key(rotate).await.unwrap();
    assert_eq!(ValidatorClient::connect(serve.validator).await.verdict(&token).await, Verdict::Deactivated);
}
