//! Lists: in the order of creation, page by page.

use keyward_domain::{Key, KeyDraft, KeyFilter, Member, Project, Revision, Role};
use keyward_store::Store;

use super::database::Database;
use super::{
    create_key, create_member, create_project, deactivate_key, key_name, key_name_in, on_all, on_platform, on_project,
    project_id, secret, to_create_key,
};

on_all! {
    a_filter_returns_items_that_match_all_of_its_terms,
    lists_are_in_the_order_of_creation,
    lists_of_nothing_are_empty,
    pages_are_complete_while_keys_are_created,
}

/// The items of all pages.
macro_rules! pages {
    ($size:expr, |$after:ident| $page:expr) => {{
        let (mut items, mut $after) = (Vec::new(), Revision(0));
        loop {
            let page = $page.await.unwrap();
            assert!(page.len() as u64 <= $size);
            let Some(last) = page.last() else { break items };
            $after = last.create_revision;
            items.extend(page);
        }
    }};
}

async fn keys_by(store: &Store, size: u64) -> Vec<Key> {
    pages!(size, |after| store.keys(&project_id("6666"), &KeyFilter::default(), after, size))
}

async fn lists_are_in_the_order_of_creation(db: &Database) {
    let store = db.initialized().await;
    let default = create_project(&store, "6666").await;
    create_project(&store, "0").await;
    let mut keys = vec![default];
    // Not in the order of any collation.
    for key in ["b", "C", "a", "_", "B", "0"] {
        keys.push(create_key(&store, &key_name(key)).await);
        create_key(&store, &key_name_in("0", key)).await;
    }
    for (id, role) in [("zoe", on_platform(Role::Owner)), ("adam", on_project(Role::Viewer, "0"))] {
        create_member(&store, id, &[role]).await;
    }
    // A change of a key does not move it in the list.
    deactivate_key(&store, &keys[2].name).await;
    keys[2] = store.key(&keys[2].name).await.unwrap().unwrap();
    for size in [1, 2, 3, 7, u64::MAX] {
        assert_eq!(keys_by(&store, size).await, keys, "pages of {size}");
        let projects: Vec<Project> = pages!(size, |after| store.projects(None, after, size));
        assert_eq!(projects.iter().map(|project| project.id.as_str()).collect::<Vec<_>>(), ["6666", "0"]);
        let members: Vec<Member> = pages!(size, |after| store.members(after, size));
        assert_eq!(members.iter().map(|member| member.id.as_str()).collect::<Vec<_>>(), ["root", "zoe", "adam"]);
        let roles: Vec<_> = members.iter().flat_map(|member| &member.roles).cloned().collect();
        let expected = [on_platform(Role::Owner), on_platform(Role::Owner), on_project(Role::Viewer, "0")];
        assert_eq!(roles, expected);
    }
}

async fn a_filter_returns_items_that_match_all_of_its_terms(db: &Database) {
    let store = db.started().await;
    create_member(&store, "alice", &[on_project(Role::Editor, "6666")]).await;
    for (name, platform, creator) in
        [("shop_a", "", "root"), ("Shop_b", "ios", "alice"), ("shopXc", "ios", "root"), ("shop_", "", "alice")]
    {
        let draft = KeyDraft::new(key_name(name), String::new(), platform, None, Default::default()).unwrap();
        store.create_key(&to_create_key(creator, "6666"), &draft, &secret(name)).await.unwrap();
    }
    deactivate_key(&store, &key_name("shop_a")).await;
    let listed = async |filter: &str| {
        let filter = KeyFilter::parse(filter, &project_id("6666")).unwrap();
        let keys = pages!(2, |after| store.keys(&project_id("6666"), &filter, after, 2));
        keys.iter().map(|key: &Key| key.name.key.to_string()).collect::<Vec<_>>()
    };
    let default = "6666_default_193444";
    assert_eq!(listed("").await, [default, "shop_a", "Shop_b", "shopXc", "shop_"]);
    // The underscore is not a wildcard, and case matters.
    assert_eq!(listed("name = \"shop_*\"").await, ["shop_a", "shop_"]);
    assert_eq!(listed("name = shop_").await, ["shop_"]);
    assert_eq!(listed("name = *").await.len(), 5);
    assert_eq!(listed("name = projects/6666/keys/shop_*").await, ["shop_a", "shop_"]);
    assert_eq!(listed("state = WITHHELD").await, [] as [&str; 0]);
    assert_eq!(listed("state = DEACTIVATED").await, ["shop_a"]);
    assert_eq!(listed("platform = ios").await, ["Shop_b", "shopXc"]);
    assert_eq!(listed("creator = members/alice").await, ["Shop_b", "shop_"]);
    assert_eq!(listed("default_key = true").await, [default]);
    assert_eq!(listed("state = ACTIVE AND creator = members/root AND default_key = false").await, ["shopXc"]);
    assert_eq!(listed("state = DEACTIVATED AND platform = ios").await, [] as [&str; 0]);
}

async fn lists_of_nothing_are_empty(db: &Database) {
    let store = db.started().await;
    assert_eq!(store.keys(&project_id("7777"), &KeyFilter::default(), Revision(0), 10).await.unwrap(), []);
    assert_eq!(store.keys(&project_id("6666"), &KeyFilter::default(), Revision(0), 0).await.unwrap(), []);
    assert_eq!(store.projects(Some(&[]), Revision(0), 10).await.unwrap(), []);
    assert_eq!(store.projects(Some(&[project_id("7777")]), Revision(0), 10).await.unwrap(), []);
    assert_eq!(store.projects(Some(&[project_id("6666")]), Revision(0), 10).await.unwrap().len(), 1);
    assert_eq!(store.members(Revision(1), 10).await.unwrap(), []);
}

async fn pages_are_complete_while_keys_are_created(db: &Database) {
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = admins[writer % 2].clone();
            tokio::spawn(async move {
                for n in 0..40 {
                    create_key(&store, &key_name(&format!("w{writer}_{n}"))).await;
                }
            })
        })
        .collect();
    let mut seen = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let keys = keys_by(&store, 7).await;
        // Every revision since the project's creation created one key, so a complete list has consecutive revisions.
        let revisions: Vec<_> = keys.iter().map(|key| key.create_revision.0).collect();
        assert_eq!(revisions, (2..2 + keys.len() as i64).collect::<Vec<_>>());
        assert!(keys.len() >= seen);
        seen = keys.len();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(keys_by(&store, 7).await.len(), 161);
}
