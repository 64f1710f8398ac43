//! What can go wrong between admins and a PostgreSQL server. SQLite has neither.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{Change, Error, KeyFilter, Reason, Revision};
use keyward_store::Store;
use keyward_tests::postgres::Postgres;
use tokio::time::{sleep, timeout};

use super::database::Database;
use super::{
    START, all_changes, create_key, give_up_after, head, key_draft, key_name, mint, project_id, refused, to_create_key,
    under,
};

/// Keeps what every writer's session is like.
const WITNESS: &str = "
CREATE TABLE witness (isolation text, durability text);
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness
        SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit');
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT ON change_log FOR EACH ROW EXECUTE FUNCTION witness();
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_of_the_database_change_nothing() {
    let db = Database::postgres();
    let mut plain = db.plain().await;
    for default in ["default_transaction_isolation = 'serializable'", "synchronous_commit = 'off'"] {
        let set = format!("'ALTER DATABASE %I SET {}'", default.replace('\'', "''"));
        plain.run(&format!("DO $$ BEGIN EXECUTE format({set}, current_database()); END $$")).await;
    }
    let store = db.started().await;
    plain.run(WITNESS).await;
    let admins = db.admins(&store).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = admins[writer % 2].clone();
            tokio::spawn(async move {
                for n in 0..10 {
                    create_key(&store, &key_name(&format!("w{writer}_{n}"))).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let count = "SELECT count(*) FROM witness WHERE isolation = 'read committed' AND durability = 'on'";
    assert_eq!(plain.number(count).await, 80);
    assert_eq!(head(&store).await, Revision(82));
}

async fn create(store: &Store, key: &str) -> Result<Revision, Error> {
    let created = store.create_key(&to_create_key("root", "6666"), &key_draft(key_name(key)), &mint(key)).await?;
    Ok(created.revision)
}

/// As when its machine is cut off: it neither goes on nor closes its connection, and it has the counter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_stops_half_way_holds_others_up_for_seconds_only() {
    let db = Database::postgres();
    let [stopped, other] = db.admins(&db.started().await).await;
    let mut plain = db.plain().await;
    let free = "SELECT count(*) FROM (SELECT FROM rev_counter FOR UPDATE SKIP LOCKED) AS counter";
    // Which of its waits is the one with the counter depends on how the answers come in; whoever gets through without
    // being caught tries again. Each with another key: one that is dropped while it commits has made its own.
    let (mut waits, mut through) = (0, 0);
    let (half_way, stopped_key) = loop {
        let (store, name) = (stopped.clone(), format!("stopped{through}_{waits}"));
        let key = name.clone();
        let mut call = Box::pin(async move { create(&store, &key).await });
        match give_up_after(waits, call.as_mut()).await {
            Some(done) => {
                done.unwrap();
                (waits, through) = (0, through + 1);
                assert!(through < 50, "it never had the counter");
            }
            None if plain.number(free).await == 0 => break (call, name),
            None => waits += 1,
        }
    };
    timeout(Duration::from_secs(10), create(&other, "other")).await.expect("the other goes on").unwrap();
    assert_eq!(refused(half_way.await), Reason::StoreUnavailable);
    let keys = other.keys(&project_id("6666"), &KeyFilter::default(), Revision(0), 10_000).await.unwrap();
    assert!(!keys.iter().any(|key| key.name.key.as_str() == stopped_key), "it has no part of what it began");
    // The project's revision made its default key, every later one a key.
    assert_eq!(head(&other).await, Revision(START.0 + keys.len() as i64 - 1));
    create(&stopped, "again").await.unwrap();
}

/// Creates a key as a client does that was told to retry with the same request id.
async fn create_until_acknowledged(store: &Store, writer: usize, n: usize) -> Revision {
    let name = format!("w{writer}_{n}");
    let request = format!("{writer:08}-2b1d-4b7e-9d55-{n:012}");
    let call = under(to_create_key("root", "6666"), "CreateKey", &request, 1);
    loop {
        match store.create_key(&call, &key_draft(key_name(&name)), &mint(&name)).await {
            Ok(created) => return created.revision,
            Err(error) => assert_eq!(error.reason(), Reason::StoreUnavailable, "{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_nothing_that_was_acknowledged_and_doubles_nothing_that_was_retried() {
    const EACH: usize = 100;
    let mut server = Postgres::start().unwrap();
    let db = Database::Postgres { url: server.database("crashing").unwrap() };
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = admins[writer % 2].clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for n in 0..EACH {
                    revisions.push((format!("w{writer}_{n}"), create_until_acknowledged(&store, writer, n).await));
                }
                revisions
            })
        })
        .collect();
    while head(&store).await < Revision(100) {
        sleep(Duration::from_millis(5)).await;
    }
    tokio::task::block_in_place(|| {
        server.crash().unwrap();
        server.restart().unwrap();
    });
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let log = all_changes(&store).await;
    let created = log.into_iter().skip(2).map(|change| match change.change {
        Change::KeyCreated { key } => (key.key.name.key.to_string(), change.revision),
        other => panic!("{other:?}"),
    });
    assert_eq!(created.collect::<BTreeMap<_, _>>(), acknowledged);
    assert_eq!(head(&store).await, Revision(START.0 + 4 * EACH as i64));
    let log = server.log().unwrap();
    assert!(log.contains("automatic recovery in progress"), "it crashed: {log}");
}
