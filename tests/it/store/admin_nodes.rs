//! Admin lives that share a database: heartbeats, eviction, and notifications of changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Reason, Revision};
use keyward_store::{Heartbeat, LogNotifications, Store};
use tokio::time::{sleep, timeout};

use super::database::{Database, Plain};
use super::{
    START, all_changes, create_key, head, key_draft, key_name, on_all, on_durable, refused, secret, to_create_key,
};

on_all! {
    a_heartbeat_counts_up_and_returns_head_lives_and_time,
    registering_a_life_again_keeps_its_heartbeats,
    a_heartbeat_of_an_unknown_life_returns_none_and_leaves_no_transaction_open,
    a_life_is_evicted_only_if_it_had_no_heartbeat,
    a_deregistered_life_is_gone,
    a_heartbeat_returns_everything_committed_before_it_was_sent,
}

on_durable! {
    lives_survive_a_restart,
}

/// The lease of the lives that [`new_life`] registers.
const LEASE: Duration = Duration::from_secs(10);

/// Long enough on a busy machine for a call that waits for nothing else.
const SOON: Duration = Duration::from_secs(2);

/// Registers a life.
async fn new_life(store: &Store) -> AdminLife {
    let life = AdminLife::generate();
    store.register_admin(life, LEASE, None).await.unwrap();
    life
}

/// Writes a heartbeat of a life that is registered.
async fn heartbeat_of(store: &Store, life: AdminLife) -> Heartbeat {
    store.heartbeat(life).await.unwrap().expect("the life is registered")
}

/// The row of a life that [`new_life`] registered.
fn listed(life: AdminLife, heartbeat: i64) -> AdminNode {
    AdminNode { life, lease: LEASE, heartbeat, address: None }
}

/// Lives in one order. The databases return them in any order.
fn sorted(mut nodes: Vec<AdminNode>) -> Vec<AdminNode> {
    nodes.sort_by_key(|node| node.life);
    nodes
}

async fn a_heartbeat_counts_up_and_returns_head_lives_and_time(db: &Database) {
    let store = db.started().await;
    let [one, other] = db.admins(&store).await;
    let first = new_life(&one).await;
    assert_eq!(heartbeat_of(&one, first).await.nodes, [listed(first, 1)]);
    let (second, lease) = (AdminLife::generate(), Duration::from_millis(1_234));
    let address = Some("http://10.0.0.2:8510".to_owned());
    other.register_admin(second, lease, address.as_deref()).await.unwrap();
    for n in 0..3 {
        create_key(&other, &key_name(&format!("key_{n}"))).await;
        let before = store.now().await.unwrap();
        let heartbeat = heartbeat_of(&one, first).await;
        let after = store.now().await.unwrap();
        assert_eq!(heartbeat.head, store.head().await.unwrap());
        assert_eq!(heartbeat.head.revision, Revision(START.0 + n + 1));
        assert!(before <= heartbeat.time && heartbeat.time <= after, "{before:?} {:?} {after:?}", heartbeat.time);
        let silent = AdminNode { life: second, lease, heartbeat: 0, address: address.clone() };
        assert_eq!(sorted(heartbeat.nodes), sorted(vec![listed(first, n + 2), silent]));
    }
    let beating = AdminNode { life: second, lease, heartbeat: 1, address };
    assert_eq!(sorted(heartbeat_of(&other, second).await.nodes), sorted(vec![listed(first, 4), beating]));
}

/// An admin that does not know the outcome of its registration tries again. If that reset the count of heartbeats, the count
/// could reach a number again at which other admins listed the life as silent.
async fn registering_a_life_again_keeps_its_heartbeats(db: &Database) {
    let store = db.started().await;
    let life = new_life(&store).await;
    heartbeat_of(&store, life).await;
    store.register_admin(life, LEASE * 2, None).await.unwrap();
    assert_eq!(heartbeat_of(&store, life).await.nodes, [listed(life, 2)]);
}

async fn a_heartbeat_of_an_unknown_life_returns_none_and_leaves_no_transaction_open(db: &Database) {
    let store = db.started().await;
    let mut watch = db.watch(&store).await;
    let [one, other] = db.admins(&store).await;
    let (beating, evicted) = (new_life(&one).await, new_life(&other).await);
    assert!(one.evict_admin(&listed(evicted, 0)).await.unwrap());
    // More often than an admin has connections.
    for _ in 0..10 {
        for never_or_no_more in [AdminLife::generate(), evicted] {
            assert!(other.heartbeat(never_or_no_more).await.unwrap().is_none());
        }
        watch.no_transaction_is_open().await;
    }
    assert_eq!(heartbeat_of(&other, beating).await.nodes, [listed(beating, 1)], "a heartbeat begins no life");
}

async fn a_life_is_evicted_only_if_it_had_no_heartbeat(db: &Database) {
    let [one, other] = db.admins(&db.started().await).await;
    let (evictor, suspect) = (new_life(&one).await, new_life(&other).await);
    heartbeat_of(&other, suspect).await;
    let before = heartbeat_of(&one, evictor).await.nodes.into_iter().find(|node| node.life == suspect).unwrap();
    assert_eq!(before, listed(suspect, 1));
    heartbeat_of(&other, suspect).await;
    assert!(!one.evict_admin(&before).await.unwrap(), "it had a heartbeat after it was listed");
    let heartbeat = heartbeat_of(&one, evictor).await;
    let since = heartbeat.nodes.into_iter().find(|node| node.life == suspect).expect("it is still there");
    assert!(one.evict_admin(&since).await.unwrap());
    assert!(!one.evict_admin(&since).await.unwrap(), "it was gone already");
    assert!(other.heartbeat(suspect).await.unwrap().is_none());
    assert_eq!(heartbeat_of(&one, evictor).await.nodes, [listed(evictor, 3)], "no other life is evicted");
}

async fn a_deregistered_life_is_gone(db: &Database) {
    let [one, other] = db.admins(&db.started().await).await;
    let (leaving, staying) = (new_life(&one).await, new_life(&other).await);
    heartbeat_of(&one, leaving).await;
    one.deregister_admin(leaving).await.unwrap();
    one.deregister_admin(leaving).await.unwrap();
    assert!(one.heartbeat(leaving).await.unwrap().is_none());
    assert_eq!(heartbeat_of(&other, staying).await.nodes, [listed(staying, 1)]);
}

/// Every lease depends on this. The returned head is consistent: its chain value belongs to its revision.
async fn a_heartbeat_returns_everything_committed_before_it_was_sent(db: &Database) {
    const EACH: usize = 100;
    let store = db.started().await;
    let admins = db.admins(&store).await;
    let committed = Arc::new(AtomicI64::new(START.0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, committed) = (admins[writer % 2].clone(), committed.clone());
            tokio::spawn(async move {
                for n in 0..EACH {
                    let key = create_key(&store, &key_name(&format!("w{writer}_{n}"))).await;
                    committed.fetch_max(key.create_revision.0, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let end = START.0 + 4 * EACH as i64;
    let hearts = admins.map(|store| {
        let committed = committed.clone();
        tokio::spawn(async move {
            let life = new_life(&store).await;
            let mut heads = Vec::new();
            loop {
                let sent = committed.load(Ordering::SeqCst);
                let heartbeat = heartbeat_of(&store, life).await;
                let found = heartbeat.head.revision;
                assert!(found.0 >= sent, "{sent} was committed, the heartbeat found {found}");
                heads.push(heartbeat.head);
                let own = heartbeat.nodes.iter().find(|node| node.life == life);
                assert_eq!(own, Some(&listed(life, heads.len() as i64)), "each counts");
                if sent == end {
                    break heads;
                }
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let log = all_changes(&store).await;
    for heart in hearts {
        let heads = heart.await.unwrap();
        assert!(heads.is_sorted_by_key(|head| head.revision), "the head went back");
        let between = heads.iter().filter(|head| START < head.revision && head.revision.0 < end);
        assert!(between.count() > 2, "{} heartbeats, all before or after the writing", heads.len());
        for head in heads {
            assert_eq!(head.chain, log[head.revision.0 as usize - 1].chain, "revision {}", head.revision);
        }
    }
}

async fn lives_survive_a_restart(db: &Database) {
    let store = db.started().await;
    let (before, silent) = (new_life(&store).await, new_life(&store).await);
    heartbeat_of(&store, before).await;
    heartbeat_of(&store, before).await;
    store.close().await;

    let store = db.open().await;
    let now = new_life(&store).await;
    let expected = sorted(vec![listed(before, 2), listed(silent, 0), listed(now, 1)]);
    assert_eq!(sorted(heartbeat_of(&store, now).await.nodes), expected);
    assert!(store.evict_admin(&listed(before, 2)).await.unwrap());
}

/// Waits until at least this many other sessions wait for a lock.
async fn sessions_wait(plain: &mut Plain, sessions: i64) {
    let waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN \
                   (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    let all = async {
        while plain.number(waiting).await < sessions {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), all).await.expect("they do not wait");
}

/// Every call that leases depend on.
async fn heartbeats_work(store: &Store) {
    let (life, other) = (new_life(store).await, new_life(store).await);
    for _ in 0..3 {
        heartbeat_of(store, life).await;
    }
    assert!(store.evict_admin(&listed(other, 0)).await.unwrap());
    store.notifications().await.unwrap();
    store.deregister_admin(life).await.unwrap();
}

/// In SQLite, heartbeats queue with writers. That is safe, because one process has the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_in_postgres_do_not_wait_for_writers() {
    let db = Database::postgres();
    let store = db.started().await;
    let (mut stopper, mut plain) = (db.plain().await, db.plain().await);
    stopper.stop_writers().await;
    let writers: Vec<_> = (0..20)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { create_key(&store, &key_name(&format!("key_{n}"))).await })
        })
        .collect();
    // All connections of the pool.
    sessions_wait(&mut plain, 8).await;
    timeout(SOON, heartbeats_work(&store)).await.expect("heartbeats wait for writers");
    stopper.run("COMMIT").await;
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(head(&store).await, Revision(START.0 + 20));
}

/// The case of several validators that need an image of millions of keys at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_in_postgres_do_not_wait_for_long_reads() {
    let db = Database::postgres();
    let store = db.started().await;
    let (mut stopper, mut plain) = (db.plain().await, db.plain().await);
    stopper.run("BEGIN; LOCK TABLE api_key IN ACCESS EXCLUSIVE MODE").await;
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load_image(drop).await.unwrap() })
        })
        .collect();
    sessions_wait(&mut plain, 8).await;
    timeout(SOON, heartbeats_work(&store)).await.expect("heartbeats wait for readers");
    stopper.run("COMMIT").await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().revision, START);
    }
}

// === LogNotifications ===

/// Waits for a notification that must come.
async fn expect_notification(notifications: &mut LogNotifications) {
    timeout(SOON, notifications.next()).await.expect("no notification").unwrap();
}

/// A notified admin finds the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_notifies_of_a_committed_change_by_another_admin() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let mut notifications = one.notifications().await.unwrap();
    for n in 1..=50 {
        create_key(&other, &key_name(&format!("key_{n}"))).await;
        expect_notification(&mut notifications).await;
        assert_eq!(head(&one).await, Revision(START.0 + n));
    }
}

/// Blocks every change just before its commit, after all statements of its transaction.
const HOLD: &str = "
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock(1);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON rev_counter DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_does_not_notify_before_a_commit_or_without_one() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let (mut holder, mut plain) = (db.plain().await, db.plain().await);
    holder.run(HOLD).await;
    let mut notifications = one.notifications().await.unwrap();
    holder.run("SELECT pg_advisory_lock(1)").await;
    let writer = tokio::spawn(async move { create_key(&other, &key_name("held")).await });
    sessions_wait(&mut plain, 1).await;
    // The absence of a notification cannot be observed. One sent by now would have arrived long ago.
    let early = timeout(Duration::from_millis(300), notifications.next()).await;
    assert!(early.is_err(), "a notification of an uncommitted change");
    assert_eq!(head(&one).await, START);
    holder.run("SELECT pg_advisory_unlock(1)").await;
    expect_notification(&mut notifications).await;
    assert_eq!(head(&one).await, START.next());
    writer.await.unwrap();

    let again = one.create_key(&to_create_key("root", "6666"), &key_draft(key_name("held")), &secret("again")).await;
    assert_eq!(refused(again), Reason::KeyNameTaken);
    let idle = timeout(Duration::from_millis(300), notifications.next()).await;
    assert!(idle.is_err(), "a notification without a change");
}

/// Breaks every listening connection at the server.
async fn break_listeners(plain: &mut Plain) {
    let listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let broken = plain.number(&format!("SELECT count(pg_terminate_backend(pid, 5000)) {listening}")).await;
    assert_eq!(broken, 1, "one connection listens");
}

/// A listener that works after its connection broke: the same one, or a new one if it returned an error.
async fn listening_again(store: &Store, mut notifications: LogNotifications) -> LogNotifications {
    match timeout(SOON, notifications.next()).await.expect("the broken connection was not reported") {
        Ok(()) => notifications,
        Err(error) => {
            assert_eq!(error.reason(), Reason::StoreUnavailable);
            store.notifications().await.unwrap()
        }
    }
}

/// Notifications during the break are lost. The break itself counts as a notification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_notifies_again_after_the_listening_connection_broke() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let (mut plain, life) = (db.plain().await, new_life(&one).await);
    let mut notifications = one.notifications().await.unwrap();
    // More often than the pool for heartbeats has connections.
    for n in 0..5 {
        break_listeners(&mut plain).await;
        create_key(&other, &key_name(&format!("missed_{n}"))).await;
        notifications = listening_again(&one, notifications).await;
        create_key(&other, &key_name(&format!("notified_{n}"))).await;
        expect_notification(&mut notifications).await;
        assert_eq!(timeout(SOON, heartbeat_of(&one, life)).await.unwrap().head.revision, Revision(START.0 + 2 * n + 2));
    }
}

/// A database with one admin needs no notifications.
async fn never_notifies(db: &Database) {
    let store = db.started().await;
    let mut notifications = store.notifications().await.unwrap();
    let changes = async {
        for n in 0..10 {
            create_key(&store, &key_name(&format!("key_{n}"))).await;
        }
    };
    tokio::select! {
        hint = notifications.next() => panic!("{hint:?}"),
        () = changes => {}
    }
    let late = timeout(Duration::from_millis(100), notifications.next()).await;
    assert!(late.is_err(), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_never_notifies() {
    never_notifies(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_never_notifies() {
    never_notifies(&Database::memory()).await;
}
