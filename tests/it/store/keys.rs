//! Creating and deactivating keys.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{Change, KeyDraft, KeyState, Platform, Reason, Revision, TokenEntry};
use keyward_store::IssuedSecret;

use super::database::Database;
use super::{
    START, all_changes, create_key, create_project, deactivate_key, digest, head, key_draft, key_name, key_name_in,
    member_id, on_all, on_durable, refused, secret, to_create_key, to_deactivate_key,
};

on_all! {
    a_key_has_the_requested_fields,
    a_key_needs_its_project,
    a_key_name_is_used_once_per_project_for_ever,
    key_names_are_case_sensitive,
    one_of_concurrent_creates_gets_the_name,
    a_key_cannot_be_created_expired,
    a_deactivated_key_has_actor_and_time_and_the_log_has_both_images,
    a_default_key_cannot_be_deactivated,
    an_etag_guards_a_deactivation,
    deactivating_again_returns_the_first_revision,
    concurrent_deactivations_make_one_change,
    a_missing_key_cannot_be_deactivated,
}

on_durable! {
    the_log_has_digests_and_never_a_sealed_token,
}

async fn a_key_has_the_requested_fields(db: &Database) {
    let store = db.started().await;
    let expire_time = store.now().await.unwrap().plus(Duration::from_secs(3600));
    let annotations = BTreeMap::from([("team".to_owned(), "édge '\"\\ ☃".to_owned()), ("z".to_owned(), String::new())]);
    let name = key_name("server_prod");
    let text = "it's \"the\" key; -- 100 % ☃".to_owned();
    let draft = KeyDraft::new(name.clone(), text.clone(), "ios", Some(expire_time), annotations.clone()).unwrap();
    let secret = secret("secret");
    let before = store.now().await.unwrap();
    let created = store.create_key(&to_create_key("root", "6666"), &draft, &secret).await.unwrap();
    let (key, after) = (created.key, store.now().await.unwrap());

    assert_eq!((created.revision, head(&store).await), (START.next(), START.next()));
    assert_eq!(created.secret, IssuedSecret::New);
    assert_eq!((&key.name, key.uid, &key.last4), (&name, secret.uid, &secret.last4));
    assert_eq!((key.state, key.default_key, key.platform), (KeyState::Active, false, Platform::Ios));
    assert_eq!((&key.description, &key.annotations, key.expire_time), (&text, &annotations, Some(expire_time)));
    assert_eq!((&key.creator, key.create_revision, key.revision), (&member_id("root"), START.next(), START.next()));
    assert!(before <= key.create_time && key.create_time <= after, "{before:?} {:?} {after:?}", key.create_time);
    assert_eq!((key.update_time, &key.deactivator, key.deactivate_time), (key.create_time, &None, None));

    assert_eq!(store.key(&name).await.unwrap().as_ref(), Some(&key));
    let last = all_changes(&store).await.pop().unwrap();
    assert_eq!((last.actor, last.time), (member_id("root"), key.create_time));
    let Change::KeyCreated { key: record } = last.change else { panic!("{:?}", last.change) };
    assert_eq!(record.key, key);
    let token = TokenEntry { digest: secret.digest, digest_key_id: 1, generation: 1, not_after: None };
    assert_eq!(record.tokens.iter().map(|token| token.entry.clone()).collect::<Vec<_>>(), [token]);
    assert_eq!(record.tokens[0].create_time, Some(record.key.create_time));
    assert!(record.tokens[0].sealed.is_some(), "the log has a fingerprint of the sealed token");
}

async fn a_key_needs_its_project(db: &Database) {
    let store = db.started().await;
    let draft = key_draft(key_name_in("7777", "server_prod"));
    let created = store.create_key(&to_create_key("root", "7777"), &draft, &secret("secret")).await;
    assert_eq!(refused(created), Reason::ProjectNotFound);
    assert_eq!(head(&store).await, START);
}

async fn a_key_name_is_used_once_per_project_for_ever(db: &Database) {
    let store = db.started().await;
    let name = key_name("server_prod");
    let first = create_key(&store, &name).await;
    let call = to_create_key("root", "6666");
    let again = store.create_key(&call, &key_draft(name.clone()), &secret("again")).await;
    assert_eq!(refused(again), Reason::KeyNameTaken);
    deactivate_key(&store, &name).await;
    let again = store.create_key(&call, &key_draft(name.clone()), &secret("again")).await;
    assert_eq!(refused(again), Reason::KeyNameTaken);
    assert_eq!(head(&store).await, Revision(4));

    create_project(&store, "7777").await;
    let other = create_key(&store, &key_name_in("7777", "server_prod")).await;
    assert_ne!(other.uid, first.uid);
    assert_eq!(store.key(&name).await.unwrap().unwrap().uid, first.uid);
}

/// A collation that ignores case would confuse two keys.
async fn key_names_are_case_sensitive(db: &Database) {
    let store = db.started().await;
    let small = create_key(&store, &key_name("a")).await;
    let capital = create_key(&store, &key_name("A")).await;
    create_key(&store, &key_name("a_b")).await;
    assert_ne!(small.uid, capital.uid);
    assert_eq!(store.key(&key_name("a")).await.unwrap().unwrap().uid, small.uid);
    assert_eq!(store.key(&key_name("A")).await.unwrap().unwrap().uid, capital.uid);
    for unlike in ["a_B", "aXb", "a_", "_"] {
        assert_eq!(store.key(&key_name(unlike)).await.unwrap(), None, "{unlike}");
    }
    deactivate_key(&store, &key_name("A")).await;
    assert_eq!(store.key(&key_name("a")).await.unwrap().unwrap(), small);
}

async fn one_of_concurrent_creates_gets_the_name(db: &Database) {
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let creates: Vec<_> = (0..8)
        .map(|n| {
            let store = admins[n % 2].clone();
            tokio::spawn(async move {
                let draft = key_draft(key_name("server_prod"));
                store.create_key(&to_create_key("root", "6666"), &draft, &secret(&n.to_string())).await
            })
        })
        .collect();
    let mut given = Vec::new();
    for create in creates {
        match create.await.unwrap() {
            Ok(created) => given.push(created.key),
            Err(error) => assert_eq!(error.reason(), Reason::KeyNameTaken, "{:?}", error.internal_detail()),
        }
    }
    let [key] = given.try_into().unwrap();
    assert_eq!(store.key(&key_name("server_prod")).await.unwrap(), Some(key));
    assert_eq!(head(&store).await, START.next());
}

async fn a_key_cannot_be_created_expired(db: &Database) {
    let store = db.started().await;
    let now = store.now().await.unwrap();
    for past in [now, now.minus(Duration::from_secs(1))] {
        let draft = KeyDraft { expire_time: Some(past), ..key_draft(key_name("server_prod")) };
        let created = store.create_key(&to_create_key("root", "6666"), &draft, &secret("secret")).await;
        let error = created.unwrap_err();
        assert_eq!((error.reason(), error.violations()[0].field.as_str()), (Reason::FieldInvalid, "key.expire_time"));
    }
    assert_eq!(head(&store).await, START);
    assert_eq!(store.key(&key_name("server_prod")).await.unwrap(), None);
}

async fn the_log_has_digests_and_never_a_sealed_token(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("server_prod")).await;
    deactivate_key(&store, &key_name("server_prod")).await;
    let mut plain = db.plain().await;
    let count = async |plain: &mut super::database::Plain, text: &str| {
        plain.number(&format!("SELECT count(*) FROM change_log WHERE change LIKE '%{text}%'")).await
    };
    let token = key_name("server_prod").to_string();
    assert_eq!(count(&mut plain, &hex::encode(digest(&token).as_bytes())).await, 2);
    let sealed = super::sealed(&token).bytes;
    let array = sealed.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    for form in [String::from_utf8(sealed.clone()).unwrap(), hex::encode(&sealed), array] {
        assert_eq!(count(&mut plain, &form).await, 0, "{form}");
    }
}

async fn a_deactivated_key_has_actor_and_time_and_the_log_has_both_images(db: &Database) {
    let store = db.started().await;
    let name = key_name("server_prod");
    let before = create_key(&store, &name).await;
    let deactivated = store.deactivate_key(&to_deactivate_key("root", "6666"), &name, "").await.unwrap();
    let (key, revision) = (deactivated.key, Revision(4));

    assert_eq!((deactivated.revision, head(&store).await), (revision, revision));
    assert_eq!((key.state, &key.deactivator), (KeyState::Deactivated, &Some(member_id("root"))));
    assert_eq!((key.deactivate_time, key.revision), (Some(key.update_time), revision));
    assert!(key.update_time >= before.update_time);
    assert_eq!((key.uid, key.create_time, key.create_revision), (before.uid, before.create_time, Revision(3)));
    assert_ne!(key.etag(), before.etag());

    assert_eq!(store.key(&name).await.unwrap().as_ref(), Some(&key));
    let last = all_changes(&store).await.pop().unwrap();
    let Change::KeyDeactivated { before: logged, after } = last.change else { panic!("{:?}", last.change) };
    assert_eq!((*logged, after.key), (before, key));
    let token = TokenEntry { digest: digest(&name.to_string()), digest_key_id: 1, generation: 1, not_after: None };
    assert_eq!(
        after.tokens.iter().map(|token| token.entry.clone()).collect::<Vec<_>>(),
        [token],
        "validators must know which token to refuse"
    );
}

async fn a_default_key_cannot_be_deactivated(db: &Database) {
    let store = db.initialized().await;
    let key = create_project(&store, "6666").await;
    for etag in ["", &key.etag(), "another"] {
        let refusal = store.deactivate_key(&to_deactivate_key("root", "6666"), &key.name, etag).await;
        assert_eq!(refused(refusal), Reason::DefaultKeyProtected, "{etag:?}");
    }
    assert_eq!((store.key(&key.name).await.unwrap(), head(&store).await), (Some(key), START));
}

async fn an_etag_guards_a_deactivation(db: &Database) {
    let store = db.started().await;
    let (key, other) = (create_key(&store, &key_name("a")).await, create_key(&store, &key_name("b")).await);
    let call = to_deactivate_key("root", "6666");
    for wrong in ["another", &other.etag(), &key.etag().to_uppercase()] {
        let refusal = store.deactivate_key(&call, &key.name, wrong).await;
        assert_eq!(refused(refusal), Reason::EtagMismatch, "{wrong}");
    }
    assert_eq!(store.key(&key.name).await.unwrap().as_ref(), Some(&key));
    assert_eq!(head(&store).await, Revision(4));
    let deactivated = store.deactivate_key(&call, &key.name, &key.etag()).await.unwrap();
    assert_eq!(deactivated.revision, Revision(5));
}

/// A retry after a lost answer waits for the fence of its deactivation.
async fn deactivating_again_returns_the_first_revision(db: &Database) {
    let store = db.started().await;
    let key = create_key(&store, &key_name("a")).await;
    let call = to_deactivate_key("root", "6666");
    let first = store.deactivate_key(&call, &key.name, &key.etag()).await.unwrap();
    create_key(&store, &key_name("b")).await;
    for etag in ["", &key.etag(), &first.key.etag(), "another"] {
        let again = store.deactivate_key(&call, &key.name, etag).await.unwrap();
        assert_eq!((again.revision, &again.key), (first.revision, &first.key), "{etag}");
    }
    assert_eq!(head(&store).await, Revision(5));
}

async fn concurrent_deactivations_make_one_change(db: &Database) {
    let store = db.started().await;
    let admins = db.admins(&store).await;
    // Ten rounds, because in the first ones the pool has too few connections for all calls to run at the same time.
    for round in 0..10 {
        let key = create_key(&store, &key_name(&format!("key_{round}"))).await;
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let (store, name, etag) = (admins[n % 2].clone(), key.name.clone(), key.etag());
                let call = to_deactivate_key("root", "6666");
                tokio::spawn(async move { store.deactivate_key(&call, &name, &etag).await })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().revision, key.revision.next());
        }
        assert_eq!(head(&store).await, key.revision.next());
    }
}

async fn a_missing_key_cannot_be_deactivated(db: &Database) {
    let store = db.started().await;
    create_project(&store, "7777").await;
    create_key(&store, &key_name_in("7777", "a")).await;
    for name in [key_name("a"), key_name_in("8888", "a")] {
        let call = to_deactivate_key("root", name.project.as_str());
        assert_eq!(refused(store.deactivate_key(&call, &name, "").await), Reason::KeyNotFound, "{name}");
    }
    assert_eq!(head(&store).await, Revision(4));
}
