//! Opening, initializing, reopening.

use keyward_domain::{Change, KeyFilter, MemberId, Revision, Role};
use keyward_store::{OpenError, SecretRecord, Store};
use keyward_tests::postgres::PASSWORD;

use super::database::{Database, FINGERPRINT, open};
use super::{
    all_changes, create_key, create_member, create_project, deactivate_key, digest, give_up_after, head, key_name,
    on_all, on_durable, on_platform, on_project, project_id, secret,
};

on_all! {
    a_new_database_is_not_initialized,
    initialize_creates_root_at_revision_1,
    initialize_again_changes_nothing,
    exactly_one_of_concurrent_initializations_creates_root,
    another_keyring_is_refused,
}

on_durable! {
    a_reopened_database_has_everything,
    an_interrupted_first_start_can_be_repeated,
    a_database_that_a_newer_version_migrated_opens,
}

fn root(credential: &str) -> SecretRecord {
    secret(credential)
}

async fn owner_of(store: &Store, credential: &str) -> Option<MemberId> {
    store.member_by_credential(&digest(credential)).await.unwrap().map(|member| member.id)
}

async fn a_new_database_is_not_initialized(db: &Database) {
    let store = db.open().await;
    assert!(!store.is_initialized().await.unwrap());
    assert!(matches!(store.check_keyring(FINGERPRINT).await, Err(OpenError::WrongKeyring)));
    store.initialize(FINGERPRINT, &root("root")).await.unwrap();
    assert!(store.is_initialized().await.unwrap());
}

async fn initialize_creates_root_at_revision_1(db: &Database) {
    let store = db.initialized().await;
    assert_eq!(head(&store).await, Revision(1));
    let member = store.member_by_credential(&digest("root")).await.unwrap().unwrap();
    assert_eq!(member.id, MemberId::root());
    assert_eq!(member.roles, [on_platform(Role::Owner)]);
    assert_eq!((member.creator.as_ref(), member.create_revision), (None, Revision(1)));
    let [change] = all_changes(&store).await.try_into().unwrap();
    assert_eq!(change.change, Change::MemberCreated { member, credential: digest("root"), digest_key_id: Some(1) });
}

async fn initialize_again_changes_nothing(db: &Database) {
    let store = db.initialized().await;
    let before = store.head().await.unwrap();
    store.initialize("another", &root("another")).await.unwrap();
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(owner_of(&store, "root").await, Some(MemberId::root()));
    assert_eq!(owner_of(&store, "another").await, None);
    store.check_keyring(FINGERPRINT).await.unwrap();
}

/// Only the successful caller may show its credential to the operator. The others' credentials are invalid.
async fn exactly_one_of_concurrent_initializations_creates_root(db: &Database) {
    let admins = db.admins(&db.open().await).await;
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let store = admins[n % 2].clone();
            tokio::spawn(async move { store.initialize(FINGERPRINT, &root(&format!("caller{n}"))).await })
        })
        .collect();
    let mut did = Vec::new();
    for caller in callers {
        did.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(did.iter().filter(|did| **did).count(), 1, "{did:?}");
    for (n, did) in did.into_iter().enumerate() {
        let owner = owner_of(&admins[0], &format!("caller{n}")).await;
        assert_eq!(owner.is_some(), did, "caller {n}");
    }
    assert!(!admins[1].initialize(FINGERPRINT, &root("late")).await.unwrap());
    assert_eq!(owner_of(&admins[0], "late").await, None);
    assert_eq!(head(&admins[0]).await, Revision(1));
}

async fn another_keyring_is_refused(db: &Database) {
    let store = db.initialized().await;
    store.check_keyring(FINGERPRINT).await.unwrap();
    for wrong in ["", "0123456789ABCDEF", "0123456789abcdef0"] {
        assert!(matches!(store.check_keyring(wrong).await, Err(OpenError::WrongKeyring)), "{wrong:?}");
    }
}

async fn a_reopened_database_has_everything(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("kept")).await;
    create_key(&store, &key_name("ended")).await;
    deactivate_key(&store, &key_name("ended")).await;
    create_member(&store, "alice", &[on_project(Role::Editor, "6666")]).await;
    let before = everything(&store).await;
    store.close().await;

    let store = db.open().await;
    store.check_keyring(FINGERPRINT).await.unwrap();
    assert_eq!(everything(&store).await, before);
    // Revisions continue where they were.
    create_project(&store, "7777").await;
    assert_eq!(head(&store).await, Revision(7));
}

async fn everything(store: &Store) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut image = Vec::new();
    let head = store.load_image(|entry| image.push(entry)).await.unwrap();
    let keys = store.keys(&project_id("6666"), &KeyFilter::default(), Revision(0), 100).await.unwrap();
    let projects = store.projects(None, Revision(0), 100).await.unwrap();
    let members = store.members(Revision(0), 100).await.unwrap();
    (head, image, keys, projects, members, all_changes(store).await)
}

/// The start may be interrupted at any wait; the next one completes it.
async fn an_interrupted_first_start_can_be_repeated(db: &Database) {
    for patience in 0..150 {
        give_up_after(patience, Box::pin(async { db.initialized().await.close().await })).await;
    }
    let store = db.initialized().await;
    assert_eq!(head(&store).await, Revision(1));
}

/// Migrations expand before they contract, so that admins of two versions can share a database during an upgrade. The older
/// version may be restarted meanwhile.
async fn a_database_that_a_newer_version_migrated_opens(db: &Database) {
    let before = db.started().await.head().await.unwrap();
    let mut plain = db.plain().await;
    plain.run("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_newer', 0)").await;
    assert_eq!(db.open().await.head().await.unwrap(), before);
}

#[tokio::test]
async fn other_databases_are_refused() {
    for url in ["mysql://root@localhost/keyward", "postgres:root@localhost/keyward", "keyward.db", ""] {
        assert!(matches!(open(url).await, Err(OpenError::Scheme)), "{url:?}");
    }
}

#[tokio::test]
async fn a_sqlite_file_is_open_in_one_process_at_a_time() {
    let db = Database::sqlite();
    let store = db.initialized().await;
    let clone = store.clone();
    assert!(matches!(db.try_open().await, Err(OpenError::InUse(path)) if path == db.path()));
    store.close().await;
    assert!(matches!(db.try_open().await, Err(OpenError::InUse(_))), "a clone still holds it");
    drop(clone);
    assert_eq!(head(&db.open().await).await, Revision(1));
}

#[tokio::test]
async fn a_sqlite_file_is_locked_under_all_its_names() {
    let db = Database::sqlite();
    let _holder = db.open().await;
    let other = tempfile::tempdir().unwrap();
    let alias = other.path().join("alias.db");
    std::os::unix::fs::symlink(db.path(), &alias).unwrap();
    assert!(matches!(open(&format!("sqlite:{}", alias.display())).await, Err(OpenError::InUse(_))));
}

/// A path is not parsed as a URL.
#[tokio::test]
async fn a_sqlite_path_may_contain_url_syntax() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a b", "50%41", "who?mode=ro", "#1", "ü"] {
        let path = directory.path().join(name).join("keyward.db");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let store = open(&format!("sqlite:{}", path.display())).await.unwrap();
        assert!(path.exists(), "{name:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn the_error_for_a_missing_directory_names_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/keyward.db");
    let error = open(&format!("sqlite:{}", path.display())).await.unwrap_err();
    assert!(error.to_string().contains("missing/keyward.lock"), "{error}");
}

/// Simulations run side by side in one process.
#[tokio::test]
async fn databases_in_memory_are_separate() {
    let (one, other) = (Database::memory().initialized().await, Database::memory().open().await);
    assert!(!other.is_initialized().await.unwrap());
    create_project(&one, "6666").await;
    other.initialize(FINGERPRINT, &root("other")).await.unwrap();
    assert_eq!((head(&one).await, head(&other).await), (Revision(2), Revision(1)));
}

/// The case of docker compose, which starts two admins over a new database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admins_that_open_a_new_postgres_at_once_make_one_schema() {
    let db = Database::postgres();
    let url = db.url();
    let opened: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn({
                let url = url.clone();
                async move { open(&url).await }
            })
        })
        .collect();
    for store in opened {
        assert!(!store.await.unwrap().unwrap().is_initialized().await.unwrap());
    }
}

/// The driver's text is printed on terminals and logged.
#[tokio::test]
async fn the_error_of_a_failed_postgres_open_hides_the_password() {
    let wrong = Database::postgres().url().replace(PASSWORD, "word-of-pass");
    for url in [&wrong, "postgres://keyward:word-of-pass@[::1/keyward", "postgres://keyward:word-of-pass@a:b/keyward"] {
        let error = open(url).await.unwrap_err();
        assert!(matches!(error, OpenError::Driver(_) | OpenError::Url(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("word-of-pass"), "{error}");
    }
    let opened = Database::postgres().open().await;
    assert!(!format!("{opened:?}").contains(PASSWORD), "{opened:?}");
}
