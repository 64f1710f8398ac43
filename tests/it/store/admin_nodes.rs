//! The lives of admins that share a database: heartbeats, and who may strike off whom; and the hints between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Reason, Revision};
use keyward_store::{Heartbeat, LogNotifications, Store};
use tokio::time::{sleep, timeout};

use super::database::{Database, Plain};
use super::{
    START, all_changes, create_key, head, key_draft, key_name, mint, on_all, on_durable, refused, to_create_key,
};

on_all! {
    a_heartbeat_counts_up_and_finds_head_lives_and_time,
    a_life_that_is_registered_again_goes_on,
    a_heartbeat_of_no_life_finds_nothing_and_leaves_no_transaction_open,
    a_life_is_struck_off_only_while_it_stays_silent,
    a_life_that_takes_its_leave_is_gone,
    a_heartbeat_finds_all_that_was_committed_before_it_was_sent,
}

on_durable! {
    lives_outlive_the_handle,
}

/// The longest lease of the lives that [`born`] registers.
const LEASE: Duration = Duration::from_secs(10);

/// Long enough for whatever does not have to wait for something else, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// A new life.
async fn born(store: &Store) -> AdminLife {
    let life = AdminLife::generate();
    store.register_admin(life, LEASE, None).await.unwrap();
    life
}

/// A heartbeat of a life that nobody has struck off.
async fn beat(store: &Store, life: AdminLife) -> Heartbeat {
    store.heartbeat(life).await.unwrap().expect("nobody has struck it off")
}

/// How a heartbeat lists a life of [`born`].
fn listed(life: AdminLife, heartbeat: i64) -> AdminNode {
    AdminNode { life, lease: LEASE, heartbeat, address: None }
}

/// Lives in an order of their own; the databases list them in theirs.
fn sorted(mut nodes: Vec<AdminNode>) -> Vec<AdminNode> {
    nodes.sort_by_key(|node| node.life);
    nodes
}

async fn a_heartbeat_counts_up_and_finds_head_lives_and_time(db: &Database) {
    let store = db.started().await;
    let [one, other] = db.admins(&store).await;
    let first = born(&one).await;
    assert_eq!(beat(&one, first).await.nodes, [listed(first, 1)]);
    let (second, lease) = (AdminLife::generate(), Duration::from_millis(1_234));
    let address = Some("http://10.0.0.2:8510".to_owned());
    other.register_admin(second, lease, address.as_deref()).await.unwrap();
    for n in 0..3 {
        create_key(&other, &key_name(&format!("key_{n}"))).await;
        let before = store.now().await.unwrap();
        let pulse = beat(&one, first).await;
        let after = store.now().await.unwrap();
        assert_eq!(pulse.head, store.head().await.unwrap());
        assert_eq!(pulse.head.revision, Revision(START.0 + n + 1));
        assert!(before <= pulse.time && pulse.time <= after, "{before:?} {:?} {after:?}", pulse.time);
        let silent = AdminNode { life: second, lease, heartbeat: 0, address: address.clone() };
        assert_eq!(sorted(pulse.nodes), sorted(vec![listed(first, n + 2), silent]));
    }
    let beating = AdminNode { life: second, lease, heartbeat: 1, address };
    assert_eq!(sorted(beat(&other, second).await.nodes), sorted(vec![listed(first, 4), beating]));
}

/// Whoever does not know whether it is registered tries again. Begun anew, its count would meet a number at which others
/// remember it as silent.
async fn a_life_that_is_registered_again_goes_on(db: &Database) {
    let store = db.started().await;
    let life = born(&store).await;
    beat(&store, life).await;
    store.register_admin(life, LEASE * 2, None).await.unwrap();
    assert_eq!(beat(&store, life).await.nodes, [listed(life, 2)]);
}

async fn a_heartbeat_of_no_life_finds_nothing_and_leaves_no_transaction_open(db: &Database) {
    let store = db.started().await;
    let mut watch = db.watch(&store).await;
    let [one, other] = db.admins(&store).await;
    let (beating, struck) = (born(&one).await, born(&other).await);
    assert!(one.evict_admin(&listed(struck, 0)).await.unwrap());
    // More often than an admin has connections.
    for _ in 0..10 {
        for never_or_no_more in [AdminLife::generate(), struck] {
            assert!(other.heartbeat(never_or_no_more).await.unwrap().is_none());
        }
        watch.no_transaction_is_open().await;
    }
    assert_eq!(beat(&other, beating).await.nodes, [listed(beating, 1)], "a heartbeat begins no life");
}

async fn a_life_is_struck_off_only_while_it_stays_silent(db: &Database) {
    let [one, other] = db.admins(&db.started().await).await;
    let (striker, suspect) = (born(&one).await, born(&other).await);
    beat(&other, suspect).await;
    let before = beat(&one, striker).await.nodes.into_iter().find(|node| node.life == suspect).unwrap();
    assert_eq!(before, listed(suspect, 1));
    beat(&other, suspect).await;
    assert!(!one.evict_admin(&before).await.unwrap(), "it had a heartbeat since");
    let pulse = beat(&one, striker).await;
    let since = pulse.nodes.into_iter().find(|node| node.life == suspect).expect("it is still there");
    assert!(one.evict_admin(&since).await.unwrap());
    assert!(!one.evict_admin(&since).await.unwrap(), "it was gone already");
    assert!(other.heartbeat(suspect).await.unwrap().is_none());
    assert_eq!(beat(&one, striker).await.nodes, [listed(striker, 3)], "nobody else is struck off");
}

async fn a_life_that_takes_its_leave_is_gone(db: &Database) {
    let [one, other] = db.admins(&db.started().await).await;
    let (leaving, staying) = (born(&one).await, born(&other).await);
    beat(&one, leaving).await;
    one.deregister_admin(leaving).await.unwrap();
    one.deregister_admin(leaving).await.unwrap();
    assert!(one.heartbeat(leaving).await.unwrap().is_none());
    assert_eq!(beat(&other, staying).await.nodes, [listed(staying, 1)]);
}

/// What every lease rests on. The head is that of one moment, too: its chain belongs to its revision.
async fn a_heartbeat_finds_all_that_was_committed_before_it_was_sent(db: &Database) {
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
            let life = born(&store).await;
            let mut heads = Vec::new();
            loop {
                let sent = committed.load(Ordering::SeqCst);
                let pulse = beat(&store, life).await;
                let found = pulse.head.revision;
                assert!(found.0 >= sent, "{sent} was committed, the heartbeat found {found}");
                heads.push(pulse.head);
                let own = pulse.nodes.iter().find(|node| node.life == life);
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

async fn lives_outlive_the_handle(db: &Database) {
    let store = db.started().await;
    let (before, silent) = (born(&store).await, born(&store).await);
    beat(&store, before).await;
    beat(&store, before).await;
    store.close().await;

    let store = db.open().await;
    let now = born(&store).await;
    let expected = sorted(vec![listed(before, 2), listed(silent, 0), listed(now, 1)]);
    assert_eq!(sorted(beat(&store, now).await.nodes), expected);
    assert!(store.evict_admin(&listed(before, 2)).await.unwrap());
}

/// Waits until at least so many other sessions wait for a lock.
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

/// All that keeps leases alive, and what ends them.
async fn lives_go_on(store: &Store) {
    let (life, other) = (born(store).await, born(store).await);
    for _ in 0..3 {
        beat(store, life).await;
    }
    assert!(store.evict_admin(&listed(other, 0)).await.unwrap());
    store.notifications().await.unwrap();
    store.deregister_admin(life).await.unwrap();
}

/// SQLite's heartbeats queue with its writers: its lives share it with nobody.
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
    // As many as there are connections for them.
    sessions_wait(&mut plain, 8).await;
    timeout(SOON, lives_go_on(&store)).await.expect("heartbeats wait for writers");
    stopper.run("COMMIT").await;
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(head(&store).await, Revision(START.0 + 20));
}

/// As when several validators ask for an image of millions of keys at once.
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
    timeout(SOON, lives_go_on(&store)).await.expect("heartbeats wait for readers");
    stopper.run("COMMIT").await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().revision, START);
    }
}

// === LogNotifications ===

/// Waits for a hint that must come.
async fn hinted(hints: &mut LogNotifications) {
    timeout(SOON, hints.next()).await.expect("no hint").unwrap();
}

/// So that whoever is given a hint finds what it is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_hints_at_a_change_by_another_admin_once_it_is_committed() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let mut hints = one.notifications().await.unwrap();
    for n in 1..=50 {
        create_key(&other, &key_name(&format!("key_{n}"))).await;
        hinted(&mut hints).await;
        assert_eq!(head(&one).await, Revision(START.0 + n));
    }
}

/// Holds every change up at the last moment before its commit: all that its transaction says has been said.
const HOLD: &str = "
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock(1);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON rev_counter DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_gives_no_hint_before_the_commit_and_none_without_one() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let (mut holder, mut plain) = (db.plain().await, db.plain().await);
    holder.run(HOLD).await;
    let mut hints = one.notifications().await.unwrap();
    holder.run("SELECT pg_advisory_lock(1)").await;
    let writer = tokio::spawn(async move { create_key(&other, &key_name("held")).await });
    sessions_wait(&mut plain, 1).await;
    // Nothing tells of a hint that does not come; one that was given by now would be here long since.
    let early = timeout(Duration::from_millis(300), hints.next()).await;
    assert!(early.is_err(), "a hint at what is not committed");
    assert_eq!(head(&one).await, START);
    holder.run("SELECT pg_advisory_unlock(1)").await;
    hinted(&mut hints).await;
    assert_eq!(head(&one).await, START.next());
    writer.await.unwrap();

    let again = one.create_key(&to_create_key("root", "6666"), &key_draft(key_name("held")), &mint("again")).await;
    assert_eq!(refused(again), Reason::KeyNameTaken);
    let idle = timeout(Duration::from_millis(300), hints.next()).await;
    assert!(idle.is_err(), "a hint at nothing");
}

/// Breaks every connection that listens, from the server's side.
async fn break_listeners(plain: &mut Plain) {
    let listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let broken = plain.number(&format!("SELECT count(pg_terminate_backend(pid, 5000)) {listening}")).await;
    assert_eq!(broken, 1, "one listens");
}

/// A listener that hears again after its connection broke: the same, unless it said that a new one is needed.
async fn listening_again(store: &Store, mut hints: LogNotifications) -> LogNotifications {
    match timeout(SOON, hints.next()).await.expect("nobody was told that the connection broke") {
        Ok(()) => hints,
        Err(error) => {
            assert_eq!(error.reason(), Reason::StoreUnavailable);
            store.notifications().await.unwrap()
        }
    }
}

/// What was said while nobody listened is lost; that it was is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_hints_again_after_the_listening_connection_broke() {
    let db = Database::postgres();
    let [one, other] = db.admins(&db.started().await).await;
    let (mut plain, life) = (db.plain().await, born(&one).await);
    let mut hints = one.notifications().await.unwrap();
    // More often than there are connections for heartbeats and listening together.
    for n in 0..5 {
        break_listeners(&mut plain).await;
        create_key(&other, &key_name(&format!("unheard_{n}"))).await;
        hints = listening_again(&one, hints).await;
        create_key(&other, &key_name(&format!("heard_{n}"))).await;
        hinted(&mut hints).await;
        assert_eq!(timeout(SOON, beat(&one, life)).await.unwrap().head.revision, Revision(START.0 + 2 * n + 2));
    }
}

/// Its only admin knows what it has changed itself.
async fn hints_never_come(db: &Database) {
    let store = db.started().await;
    let mut hints = store.notifications().await.unwrap();
    let changes = async {
        for n in 0..10 {
            create_key(&store, &key_name(&format!("key_{n}"))).await;
        }
    };
    tokio::select! {
        hint = hints.next() => panic!("{hint:?}"),
        () = changes => {}
    }
    let late = timeout(Duration::from_millis(100), hints.next()).await;
    assert!(late.is_err(), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_never_come_from_a_sqlite_file() {
    hints_never_come(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_never_come_from_memory() {
    hints_never_come(&Database::memory()).await;
}
