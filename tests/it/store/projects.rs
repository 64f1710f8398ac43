//! Creating projects.

use keyward_domain::{Change, KeyState, ProjectDraft, Reason, Revision};
use keyward_store::{IssuedSecret, Store};

use super::database::Database;
use super::{
    all_changes, create_project, head, key_name_in, member_id, on_all, project_draft, project_id, refused, secret,
    to_create_project,
};

on_all! {
    a_project_comes_with_its_default_key_in_one_change,
    a_project_id_is_used_once,
    project_ids_are_case_sensitive,
    allocated_ids_skip_taken_numbers,
    concurrently_allocated_projects_get_distinct_ids,
    one_of_concurrent_creates_gets_the_id,
}

async fn a_project_comes_with_its_default_key_in_one_change(db: &Database) {
    let store = db.initialized().await;
    let draft = ProjectDraft::new(Some(project_id("6666")), "Räume & Höfe".to_owned()).unwrap();
    let secret = secret("secret");
    let created = store.create_project(&to_create_project("root"), &draft, 193_444, &secret).await.unwrap();
    let (project, key) = (created.project, created.default_key);

    assert_eq!((created.revision, head(&store).await), (Revision(2), Revision(2)));
    assert_eq!(created.secret, IssuedSecret::New);
    assert_eq!((project.id.as_str(), project.display_name.as_str()), ("6666", "Räume & Höfe"));
    assert_eq!((&project.creator, project.create_revision), (&member_id("root"), Revision(2)));
    assert_eq!(key.name, key_name_in("6666", "6666_default_193444"));
    assert!(key.name.key.has_default_pattern() && key.default_key);
    assert_eq!((key.state, key.expire_time), (KeyState::Active, None));
    assert_eq!((key.uid, key.create_revision, key.revision), (secret.uid, Revision(2), Revision(2)));
    assert_eq!((key.create_time, key.update_time), (project.create_time, project.create_time));

    assert_eq!(store.project(&project.id).await.unwrap().as_ref(), Some(&project));
    assert_eq!(store.key(&key.name).await.unwrap().as_ref(), Some(&key));
    let last = all_changes(&store).await.pop().unwrap();
    let Change::ProjectCreated { project: logged, default_key } = last.change else { panic!("{last:?}") };
    assert_eq!((logged, default_key.key), (project, key));
    assert_eq!(default_key.tokens.len(), 1);
    assert_eq!((default_key.tokens[0].entry.digest, default_key.tokens[0].entry.generation), (secret.digest, 1));
}

async fn a_project_id_is_used_once(db: &Database) {
    let store = db.started().await;
    let before = store.head().await.unwrap();
    let again = store.create_project(&to_create_project("root"), &project_draft("6666"), 1, &secret("again")).await;
    assert_eq!(refused(again), Reason::ProjectIdTaken);
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(store.key(&key_name_in("6666", "6666_default_000001")).await.unwrap(), None);
}

async fn project_ids_are_case_sensitive(db: &Database) {
    let store = db.initialized().await;
    create_project(&store, "Shop").await;
    create_project(&store, "shop").await;
    assert!(store.project(&project_id("SHOP")).await.unwrap().is_none());
    assert_eq!(store.projects(None, Revision(0), 10).await.unwrap().len(), 2);
}

/// Creates a project without a given id. Returns the allocated id.
async fn allocate(store: &Store, token: &str) -> Result<String, keyward_domain::Error> {
    let created = store.create_project(&to_create_project("root"), &project_draft(""), 1, &secret(token)).await?;
    Ok(created.project.id.to_string())
}

async fn allocated_ids_skip_taken_numbers(db: &Database) {
    let store = db.initialized().await;
    assert_eq!(allocate(&store, "a").await.unwrap(), "1000");
    create_project(&store, "1001").await;
    create_project(&store, "1002").await;
    assert_eq!(allocate(&store, "b").await.unwrap(), "1003");
    create_project(&store, "1005").await;
    assert_eq!(allocate(&store, "c").await.unwrap(), "1004");
    assert_eq!(allocate(&store, "d").await.unwrap(), "1006");
    let default = store.key(&key_name_in("1006", "1006_default_000001")).await.unwrap().unwrap();
    assert!(default.default_key);
}

async fn concurrently_allocated_projects_get_distinct_ids(db: &Database) {
    let store = db.initialized().await;
    let admins = db.admins(&store).await;
    let allocations: Vec<_> = (0..24)
        .map(|n| {
            let store = admins[n % 2].clone();
            tokio::spawn(async move { allocate(&store, &n.to_string()).await })
        })
        .collect();
    let mut ids = Vec::new();
    for allocation in allocations {
        ids.push(allocation.await.unwrap().unwrap());
    }
    ids.sort();
    assert_eq!(ids, (1000..1024).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn one_of_concurrent_creates_gets_the_id(db: &Database) {
    let store = db.initialized().await;
    let admins = db.admins(&store).await;
    let creates: Vec<_> = (0..8_u32)
        .map(|n| {
            let store = admins[n as usize % 2].clone();
            tokio::spawn(async move {
                let secret = secret(&n.to_string());
                store.create_project(&to_create_project("root"), &project_draft("6666"), n, &secret).await
            })
        })
        .collect();
    let mut given = 0;
    for create in creates {
        match create.await.unwrap() {
            Ok(_) => given += 1,
            Err(error) => assert_eq!(error.reason(), Reason::ProjectIdTaken, "{:?}", error.internal_detail()),
        }
    }
    assert_eq!((given, head(&store).await), (1, Revision(2)));
}
