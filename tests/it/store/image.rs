//! The image from which admins publish keys to validators.

use std::collections::{BTreeMap, BTreeSet};

use keyward_domain::{KeyDraft, KeyEntry, LoggedChange, Position, Revision, Uid};
use keyward_store::Store;

use super::database::Database;
use super::{all_changes, create_key, create_project, deactivate_key, key_name, key_name_in, on_all, secret};
use super::{head, to_create_key};

on_all! {
    an_image_of_a_new_database_is_empty,
    an_image_is_the_sum_of_all_changes,
    an_image_of_many_keys_is_complete,
    an_image_matches_its_head_during_writes,
}

/// Keys by uid.
type Image = BTreeMap<Uid, KeyEntry>;

async fn image(store: &Store) -> (Position, Image) {
    let mut image = Image::new();
    let head = store
        .load_image(|entry| {
            let name = entry.name.clone();
            assert!(image.insert(entry.uid, entry).is_none(), "{name} came twice");
        })
        .await
        .unwrap();
    (head, image)
}

/// The image of a replica that applied every change.
fn sum(changes: impl IntoIterator<Item = LoggedChange>) -> Image {
    let entries = changes.into_iter().flat_map(|change| change.change.into_entries());
    entries.map(|entry| (entry.uid, entry)).collect()
}

async fn an_image_of_a_new_database_is_empty(db: &Database) {
    let store = db.initialized().await;
    let (head, image) = image(&store).await;
    assert_eq!((head, image.len()), (store.head().await.unwrap(), 0));
}

async fn an_image_is_the_sum_of_all_changes(db: &Database) {
    let store = db.started().await;
    create_project(&store, "7777").await;
    for n in 0..10 {
        create_key(&store, &key_name_in(if n % 2 == 0 { "6666" } else { "7777" }, &format!("key_{n}"))).await;
    }
    for n in [2, 6] {
        deactivate_key(&store, &key_name(&format!("key_{n}"))).await;
    }
    let expire_time = Some(store.now().await.unwrap().plus(std::time::Duration::from_secs(60)));
    let draft = KeyDraft::new(key_name("mobile"), String::new(), "android", expire_time, BTreeMap::new()).unwrap();
    store.create_key(&to_create_key("root", "6666"), &draft, &secret("mobile")).await.unwrap();

    let (head, image) = image(&store).await;
    assert_eq!(head, store.head().await.unwrap());
    assert_eq!(image.len(), 13);
    assert_eq!(image.values().filter(|entry| !entry.active).count(), 2);
    assert_eq!(image, sum(all_changes(&store).await));
}

/// More than one page.
const MANY: usize = 2_010;

async fn an_image_of_many_keys_is_complete(db: &Database) {
    let store = db.started().await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in (writer..MANY).step_by(8) {
                    create_key(&store, &key_name(&format!("key_{n}"))).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let (head, image) = image(&store).await;
    assert_eq!(head.revision, Revision(2 + MANY as i64));
    let names: BTreeSet<_> = image.values().map(|entry| entry.name.key.to_string()).collect();
    let expected = (0..MANY).map(|n| format!("key_{n}")).chain(["6666_default_193444".to_owned()]);
    assert_eq!(names, expected.collect());
    assert!(image.values().all(|entry| entry.tokens.len() == 1));
}

async fn an_image_matches_its_head_during_writes(db: &Database) {
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = admins[writer % 2].clone();
            tokio::spawn(async move {
                for n in 0..30 {
                    let name = key_name(&format!("w{writer}_{n}"));
                    create_key(&store, &name).await;
                    deactivate_key(&store, &name).await;
                }
            })
        })
        .collect();
    let mut images = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        images.push(image(&store).await);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(head(&store).await, Revision(2 + 240));
    let changes = all_changes(&store).await;
    assert!(images.len() > 2, "{} images", images.len());
    for (head, image) in images {
        let upto = changes.iter().filter(|change| change.revision <= head.revision).cloned();
        assert_eq!(image, sum(upto), "revision {}", head.revision);
        assert_eq!(changes[head.revision.0 as usize - 1].chain, head.chain);
    }
}
