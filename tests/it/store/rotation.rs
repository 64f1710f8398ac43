//! Changes of keys between creation and deactivation: updates, rotations, reveals, schedules.

use std::time::Duration;

use keyward_domain::{Change, Key, KeyEntry, KeyName, KeyState, KeyUpdate, Patch, Permission, Reason, Timestamp};
use keyward_store::{Call, IssuedSecret, Rotation, Store};

use super::database::Database;
use super::{
    all_changes, create_key, deactivate_key, head, key_name, member_id, on_all, refused, sealed, secret, to_create_key,
    under,
};

on_all! {
    an_update_changes_the_named_fields_and_logs_both_images,
    activating_a_key_cancels_its_schedule,
    a_rotation_links_both_keys_at_one_revision_and_is_done_once,
    one_of_concurrent_rotations_succeeds,
    a_default_key_gets_a_token_that_supersedes_the_others,
    a_reveal_is_logged_before_it_is_answered,
    a_scheduled_deactivation_is_made_exactly_once,
    the_image_equals_the_replayed_log,
}

fn to(permission: Permission) -> Call {
    Call { permission, ..to_create_key("root", "6666") }
}

fn rotation(old: &KeyName, new: &str, after: Option<u64>) -> Rotation {
    Rotation { old: old.clone(), new: key_name(new).key, deactivate_old_after: after.map(Duration::from_secs) }
}

/// Schedules a deactivation some milliseconds from now, and waits until it is due.
async fn make_due(store: &Store, name: &KeyName) -> Key {
    let mut delay = Duration::from_millis(50);
    let (key, time) = loop {
        let time = store.now().await.unwrap().plus(delay);
        let update = KeyUpdate { scheduled_deactivate_time: Patch::Set(time), ..Default::default() };
        match store.update_key(&to(Permission::KeyUpdate), name, &update, "").await {
            Ok(updated) => break (updated.key, time),
            // On a busy machine, the time is in the past when the transaction reads the clock.
            Err(error) => assert_eq!(error.reason(), Reason::FieldInvalid, "{error:?}"),
        }
        delay *= 2;
        assert!(delay < Duration::from_secs(30), "no time in the future is accepted");
    };
    while store.now().await.unwrap() < time {
        tokio::task::yield_now().await;
    }
    key
}

async fn an_update_changes_the_named_fields_and_logs_both_images(db: &Database) {
    let store = db.started().await;
    let name = key_name("a");
    let before = create_key(&store, &name).await;
    let update = KeyUpdate { description: Some("new".to_owned()), ..Default::default() };
    let done = store.update_key(&to(Permission::KeyUpdate), &name, &update, &before.etag()).await.unwrap();
    let expected = Key {
        description: "new".to_owned(),
        revision: done.revision,
        update_time: done.key.update_time,
        ..before.clone()
    };
    assert_eq!(done.key, expected);
    assert_eq!(store.key(&name).await.unwrap(), Some(expected));
    let last = all_changes(&store).await.pop().unwrap();
    let Change::KeyUpdated { before: was, after } = last.change else { panic!("{:?}", last.change) };
    assert_eq!((*was, after.key, after.tokens.len()), (before, done.key.clone(), 1));
    // Repeating the update changes nothing, whatever the etag.
    let again = store.update_key(&to(Permission::KeyUpdate), &name, &update, "stale").await.unwrap();
    assert_eq!((again.key, head(&store).await), (done.key, done.revision));
}

async fn activating_a_key_cancels_its_schedule(db: &Database) {
    let store = db.started().await;
    let name = key_name("a");
    create_key(&store, &name).await;
    deactivate_key(&store, &name).await;
    let key = store.activate_key(&to(Permission::KeyActivate), &name, "").await.unwrap().key;
    assert_eq!((key.state, key.deactivator, key.deactivate_time), (KeyState::Active, None, None));
    make_due(&store, &name).await;
    let key = store.activate_key(&to(Permission::KeyActivate), &name, "").await.unwrap().key;
    assert_eq!(key.schedule, None);
    assert!(store.due_deactivations(10).await.unwrap().is_empty());
    let at = head(&store).await;
    store.activate_key(&to(Permission::KeyActivate), &name, "stale").await.unwrap();
    assert_eq!(head(&store).await, at, "nothing to change");
}

async fn a_rotation_links_both_keys_at_one_revision_and_is_done_once(db: &Database) {
    let store = db.started().await;
    let name = key_name("a");
    create_key(&store, &name).await;
    let call = under(to(Permission::KeyRotate), "RotateKey", super::REQUEST, 1);
    let asked = rotation(&name, "b", Some(60));
    let done = store.rotate_key(&call, &asked, &secret("b")).await.unwrap();
    assert_eq!((done.key.revision, done.old.revision), (done.revision, done.revision));
    assert_eq!((done.key.replaces.as_ref(), done.old.replaced_by.as_ref()), (Some(&name.key), Some(&asked.new)));
    let schedule = done.old.schedule.clone().unwrap();
    assert_eq!((schedule.by, schedule.time), (member_id("root"), done.old.update_time.plus(Duration::from_secs(60))));
    assert_eq!(store.key(&name).await.unwrap().as_ref(), Some(&done.old));
    assert_eq!(store.key(&key_name("b")).await.unwrap().as_ref(), Some(&done.key));
    let again = store.rotate_key(&call, &asked, &secret("other")).await.unwrap();
    // The answer with the secret is an entry of its own.
    assert_eq!((again.key.uid, again.revision), (done.key.uid, done.revision));
    assert_eq!(head(&store).await, done.revision.next());
    assert_eq!(again.secret, IssuedSecret::Replayed(sealed("b")));
    let later = store.rotate_key(&to(Permission::KeyRotate), &rotation(&name, "c", None), &secret("c")).await;
    assert_eq!(refused(later), Reason::KeyReplaced);
}

async fn one_of_concurrent_rotations_succeeds(db: &Database) {
    let first = db.started().await;
    let name = key_name("a");
    create_key(&first, &name).await;
    let admins = db.admins(&first).await;
    let rotations: Vec<_> = (0..8)
        .map(|n| {
            let (store, name) = (admins[n % 2].clone(), name.clone());
            tokio::spawn(async move {
                let new = format!("b{n}");
                store.rotate_key(&to(Permission::KeyRotate), &rotation(&name, &new, None), &secret(&new)).await
            })
        })
        .collect();
    let mut done = 0;
    for rotation in rotations {
        match rotation.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error.reason(), Reason::KeyReplaced),
        }
    }
    assert_eq!(done, 1);
}

async fn a_default_key_gets_a_token_that_supersedes_the_others(db: &Database) {
    let store = db.started().await;
    let Change::ProjectCreated { default_key, .. } = all_changes(&store).await.pop().unwrap().change else { panic!() };
    let name = default_key.key.name.clone();
    // Root has no support role.
    let by_root =
        store.rotate_default_key(&to(Permission::DefaultKeyRotate), &name, Duration::ZERO, &secret("x")).await;
    assert_eq!(refused(by_root), Reason::PermissionDenied);
    super::create_member(&store, "help", &[super::on_platform(keyward_domain::Role::Support)]).await;
    let call = Call { actor: member_id("help"), ..to(Permission::DefaultKeyRotate) };
    let grace = Duration::from_secs(60);
    let first = store.rotate_default_key(&call, &name, grace, &secret("second")).await.unwrap();
    assert_eq!(first.key.last4, secret("second").last4);
    store.rotate_default_key(&call, &name, Duration::ZERO, &secret("third")).await.unwrap();
    let Change::TokenRotated { after, .. } = all_changes(&store).await.pop().unwrap().change else { panic!() };
    let ends: Vec<_> = after.tokens.iter().map(|token| (token.entry.generation, token.entry.not_after)).collect();
    // Both older tokens end at once, on every clock. That also cuts the grace of the first rotation short.
    let at_once = Some(Timestamp::from_micros(1));
    assert_eq!(ends, [(1, at_once), (2, at_once), (3, None)]);
    let found = store.key_by_token(&secret("second").digest).await.unwrap().unwrap();
    assert_eq!(found.name, name);
    create_key(&store, &key_name("a")).await;
    let other = store.rotate_default_key(&call, &key_name("a"), grace, &secret("y")).await;
    assert_eq!(refused(other), Reason::FieldInvalid);
}

async fn a_reveal_is_logged_before_it_is_answered(db: &Database) {
    let store = db.started().await;
    let name = key_name("a");
    let key = create_key(&store, &name).await;
    let revealed = store.reveal_token(&to(Permission::KeyReveal), &name).await.unwrap();
    assert_eq!((&revealed.key, Some(revealed.sealed)), (&key, secret(&name.to_string()).sealed));
    let last = all_changes(&store).await.pop().unwrap();
    let Change::TokenRevealed { name: whose, generation: 1 } = last.change else { panic!("{:?}", last.change) };
    assert_eq!((whose, last.actor), (name.clone(), member_id("root")));
    assert_eq!(store.key(&name).await.unwrap(), Some(key), "a reveal does not change the key");
    let unsealed = keyward_store::SecretRecord { sealed: None, ..secret("b") };
    let call = to_create_key("root", "6666");
    store.create_key(&call, &super::key_draft(key_name("b")), &unsealed).await.unwrap();
    let at = head(&store).await;
    let nothing = store.reveal_token(&to(Permission::KeyReveal), &key_name("b")).await;
    assert_eq!((refused(nothing), head(&store).await), (Reason::RevealDisabled, at));
}

async fn a_scheduled_deactivation_is_made_exactly_once(db: &Database) {
    let first = db.started().await;
    let name = key_name("a");
    create_key(&first, &name).await;
    let due = make_due(&first, &name).await;
    assert_eq!(first.due_deactivations(10).await.unwrap(), std::slice::from_ref(&due));
    let at = head(&first).await;
    let admins = db.admins(&first).await;
    let tries: Vec<_> = (0..8)
        .map(|n| {
            let (store, due) = (admins[n % 2].clone(), due.clone());
            tokio::spawn(async move { store.deactivate_scheduled(&due).await.unwrap() })
        })
        .collect();
    let mut done = Vec::new();
    for one in tries {
        done.extend(one.await.unwrap());
    }
    assert_eq!((done.len(), head(&first).await), (1, at.next()));
    assert_eq!((done[0].key.state, &done[0].key.schedule), (KeyState::Deactivated, &None));
    assert_eq!(done[0].key.deactivator, Some(member_id("root")));
    assert!(first.due_deactivations(10).await.unwrap().is_empty());
    // The key is active again without a schedule, so the schedule that was listed before is void.
    first.activate_key(&to(Permission::KeyActivate), &name, "").await.unwrap();
    assert!(first.deactivate_scheduled(&due).await.unwrap().is_none());
}

/// A replica that applies the log and one that loads the tables have the same keys.
async fn the_image_equals_the_replayed_log(db: &Database) {
    let store = db.started().await;
    for name in ["a", "b"] {
        create_key(&store, &key_name(name)).await;
    }
    store.rotate_key(&to(Permission::KeyRotate), &rotation(&key_name("a"), "c", Some(60)), &secret("c")).await.unwrap();
    let update = KeyUpdate { expire_time: Patch::Set(Timestamp::from_micros(i64::MAX / 2)), ..Default::default() };
    store.update_key(&to(Permission::KeyUpdate), &key_name("b"), &update, "").await.unwrap();
    deactivate_key(&store, &key_name("b")).await;
    store.activate_key(&to(Permission::KeyActivate), &key_name("b"), "").await.unwrap();
    deactivate_key(&store, &key_name("a")).await;
    super::create_member(&store, "help", &[super::on_platform(keyward_domain::Role::Support)]).await;
    let default_key = all_changes(&store).await.into_iter().find_map(|change| match change.change {
        Change::ProjectCreated { default_key, .. } => Some(default_key.key.name),
        _ => None,
    });
    let call = Call { actor: member_id("help"), ..to(Permission::DefaultKeyRotate) };
    store.rotate_default_key(&call, &default_key.unwrap(), Duration::ZERO, &secret("new")).await.unwrap();

    let mut replayed = std::collections::BTreeMap::new();
    for change in all_changes(&store).await {
        replayed.extend(change.change.into_entries().into_iter().map(|entry: KeyEntry| (entry.uid, entry)));
    }
    let mut image = std::collections::BTreeMap::new();
    store.load_image(|entry| drop(image.insert(entry.uid, entry))).await.unwrap();
    assert_eq!(image, replayed);
    assert_eq!(image.len(), 4);
}
