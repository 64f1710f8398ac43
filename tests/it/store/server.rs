//! Failures between admins and a PostgreSQL server, which SQLite does not have.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{Change, Error, KeyFilter, Reason, Revision};
use keyward_store::Store;
use keyward_tests::postgres::Postgres;
use tokio::time::{sleep, timeout};

use super::database::Database;
use super::{
    START, all_changes, create_key, give_up_after, head, key_draft, key_name, project_id, refused, secret,
    to_create_key, under,
};

/// Records the session settings of every writer.
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
    let created = store.create_key(&to_create_key("root", "6666"), &key_draft(key_name(key)), &secret(key)).await?;
    Ok(created.revision)
}

/// The case of an admin whose machine is cut off: it stops, keeps its connection open, and holds the head of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_that_stops_in_a_transaction_blocks_others_for_seconds_only() {
    let db = Database::postgres();
    let [stopped, other] = db.admins(&db.started().await).await;
    let mut plain = db.plain().await;
    let free = "SELECT count(*) FROM (SELECT FROM rev_counter FOR UPDATE SKIP LOCKED) AS counter";
    // At which wait the call holds the head depends on the timing of the responses. A call that completes without being caught
    // is repeated, each time with another key, because a call that is dropped during its commit may have created its key.
    let (mut waits, mut through) = (0, 0);
    let (half_way, stopped_key) = loop {
        let (store, name) = (stopped.clone(), format!("stopped{through}_{waits}"));
        let key = name.clone();
        let mut call = Box::pin(async move { create(&store, &key).await });
        match give_up_after(waits, call.as_mut()).await {
            Some(done) => {
                done.unwrap();
                (waits, through) = (0, through + 1);
                assert!(through < 50, "no call was caught with the head locked");
            }
            None if plain.number(free).await == 0 => break (call, name),
            None => waits += 1,
        }
    };
    timeout(Duration::from_secs(10), create(&other, "other")).await.expect("the other admin is blocked").unwrap();
    assert_eq!(refused(half_way.await), Reason::StoreUnavailable);
    let keys = other.keys(&project_id("6666"), &KeyFilter::default(), Revision(0), 10_000).await.unwrap();
    assert!(!keys.iter().any(|key| key.name.key.as_str() == stopped_key), "the stopped transaction left a key");
    // The project's revision created its default key, and every later one a key.
    assert_eq!(head(&other).await, Revision(START.0 + keys.len() as i64 - 1));
    create(&stopped, "again").await.unwrap();
}

/// Creates a key like a client that retries with the same request id until it succeeds.
async fn create_until_acknowledged(store: &Store, writer: usize, n: usize) -> Revision {
    let name = format!("w{writer}_{n}");
    let request = format!("{writer:08}-2b1d-4b7e-9d55-{n:012}");
    let call = under(to_create_key("root", "6666"), "CreateKey", &request, 1);
    loop {
        match store.create_key(&call, &key_draft(key_name(&name)), &secret(&name)).await {
            Ok(created) => return created.revision,
            Err(error) => assert_eq!(error.reason(), Reason::StoreUnavailable, "{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_no_acknowledged_change_and_repeats_no_retried_one() {
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
    let (mut created, mut replays) = (BTreeMap::new(), 0);
    for change in log.into_iter().skip(2) {
        match change.change {
            Change::KeyCreated { key } => drop(created.insert(key.key.name.key.to_string(), change.revision)),
            // The crash lost the answer of a commit, and the retry got the token of the key again.
            Change::TokenReplayed { .. } => replays += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(created, acknowledged);
    assert_eq!(head(&store).await, Revision(START.0 + 4 * EACH as i64 + replays));
    let log = server.log().unwrap();
    assert!(log.contains("automatic recovery in progress"), "the server did not crash: {log}");
}
