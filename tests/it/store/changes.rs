//! The change log: gapless, in commit order, chained.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use keyward_domain::{KeyFilter, LoggedChange, Reason, Revision};
use keyward_store::Store;
use keyward_tests::{report, size};
use tokio::time::{sleep, timeout};

use super::database::{CHAIN_KEY, Database};
use super::{
    START, all_changes, create_key, create_project, deactivate_key, give_up_after, head, key_draft, key_name,
    key_name_in, large_on_all, on_all, on_durable, refused, secret, to_create_key, to_deactivate_key,
};

on_all! {
    changes_come_in_pages,
    refused_calls_leave_no_transaction_open,
    cancelled_calls_leave_no_transaction_open_and_no_gap,
}

large_on_all! {
    concurrent_writers_make_one_gapless_chain_that_readers_see_grow,
}

on_durable! {
    a_changed_entry_breaks_the_chain,
    a_missing_entry_is_noticed,
    readers_do_not_wait_for_writers,
}

/// The expected chain value of `change`: keyed BLAKE3 over the previous value, the revision, the time, and three texts with
/// their lengths; all numbers are 8 bytes, big-endian.
fn link(previous: &[u8; 32], change: &LoggedChange) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(&CHAIN_KEY);
    hasher.update(previous);
    hasher.update(&change.revision.0.to_be_bytes());
    hasher.update(&change.time.as_micros().to_be_bytes());
    let text = serde_json::to_string(&change.change).unwrap();
    for text in [change.actor.as_str(), &change.change.resource(), &text] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Follows a log as a publisher does, and checks every chain value.
struct Follower {
    store: Store,
    /// The newest revision that any admin has acknowledged to a writer.
    acknowledged: Arc<AtomicI64>,
    last: Revision,
    chain: [u8; 32],
    changes: Vec<LoggedChange>,
}

impl Follower {
    fn of(store: &Store) -> Self {
        let acknowledged = Arc::default();
        Self { store: store.clone(), acknowledged, last: Revision(0), chain: [0; 32], changes: Vec::new() }
    }

    /// Reads up to `limit` changes. Returns `true` if there were any.
    async fn read(&mut self, limit: u64) -> bool {
        let acknowledged = Revision(self.acknowledged.load(Ordering::SeqCst));
        let head = self.store.head().await.unwrap();
        assert!(head.revision >= self.last, "the head went back from {} to {}", self.last, head.revision);
        assert!(head.revision >= acknowledged, "{acknowledged} was acknowledged, the head is {}", head.revision);
        let page = self.store.changes_after(self.last, limit).await.unwrap();
        for change in &page {
            assert_eq!(change.revision, self.last.next());
            assert_eq!(change.chain, link(&self.chain, change), "revision {}", change.revision);
            (self.last, self.chain) = (change.revision, change.chain);
            if change.revision == head.revision {
                assert_eq!(change.chain, head.chain, "revision {}", change.revision);
            }
        }
        assert!(page.len() as u64 == limit || self.last >= head.revision, "the log ends before the head");
        let any = !page.is_empty();
        self.changes.extend(page);
        any
    }

    /// Reads on until `end`.
    async fn until(mut self, end: Revision) -> Self {
        while self.last < end {
            self.read(16).await;
        }
        self
    }
}

async fn changes_come_in_pages(db: &Database) {
    let store = db.started().await;
    for n in 0..5 {
        create_key(&store, &key_name(&format!("key_{n}"))).await;
    }
    let all = all_changes(&store).await;
    assert_eq!(all.iter().map(|change| change.revision.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.changes_after(Revision(2), 3).await.unwrap(), all[2..5]);
    assert_eq!(store.changes_after(Revision(5), 3).await.unwrap(), all[5..]);
    assert_eq!(store.changes_after(Revision(7), 3).await.unwrap(), []);
    assert_eq!(store.changes_after(Revision(8), 3).await.unwrap(), []);
    assert_eq!(store.changes_after(Revision(0), 0).await.unwrap(), []);
}

const WRITERS: usize = 8;
const EACH: usize = size::CHANGES_OF_A_WRITER;

/// Creates four keys and deactivates one of them, again and again. Returns the key and the revision of each change.
async fn write(store: Store, writer: usize, acknowledged: Arc<AtomicI64>) -> Vec<(String, Revision)> {
    let mut done = Vec::new();
    for n in 0..EACH {
        let name = |n: usize| key_name_in(["6666", "7777"][n % 2], &format!("w{writer}_{n}"));
        let (key, revision) = if n % 5 == 4 {
            let key = name(n - 1 - writer % 4);
            let revision = deactivate_key(&store, &key).await;
            (key, revision)
        } else {
            let key = create_key(&store, &name(n)).await;
            (key.name, key.create_revision)
        };
        acknowledged.fetch_max(revision.0, Ordering::SeqCst);
        done.push((key.to_string(), revision));
    }
    done
}

/// The number of revisions up to `end` that a log lacks.
fn gaps(log: &[LoggedChange], end: Revision) -> usize {
    let present: BTreeSet<_> = log.iter().map(|change| change.revision.0).collect();
    (1..=end.0).filter(|revision| !present.contains(revision)).count()
}

/// The number of pairs in a log that are out of order: neighbours by revision or time, and consecutive changes of one writer.
fn inversions(log: &[LoggedChange], writers: &[Vec<(String, Revision)>]) -> usize {
    let next_to = log.windows(2).filter(|pair| pair[0].revision >= pair[1].revision || pair[0].time > pair[1].time);
    let of_writers = writers.iter().flat_map(|done| done.windows(2)).filter(|pair| pair[0].1 >= pair[1].1);
    next_to.count() + of_writers.count()
}

async fn concurrent_writers_make_one_gapless_chain_that_readers_see_grow(db: &Database) {
    let store = db.started().await;
    create_project(&store, "7777").await;
    let admins = db.admins(&store).await;
    let end = Revision(3 + (WRITERS * EACH) as i64);
    let acknowledged = Arc::<AtomicI64>::default();
    let follow = |store| Follower { acknowledged: acknowledged.clone(), ..Follower::of(store) }.until(end);
    let followers: Vec<_> = admins.iter().map(|store| tokio::spawn(follow(store))).collect();
    let began = Instant::now();
    let writers: Vec<_> =
        (0..WRITERS).map(|n| tokio::spawn(write(admins[n % 2].clone(), n, acknowledged.clone()))).collect();
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    let took = began.elapsed();
    let mut logs = Vec::new();
    for follower in followers {
        let mut follower = timeout(Duration::from_secs(5), follower).await.unwrap().unwrap();
        assert!(!follower.read(16).await, "nothing comes after the last writer");
        logs.push(follower.changes);
    }
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], all_changes(&store).await);
    let last = logs[0].last().unwrap();
    let head = store.head().await.unwrap();
    assert_eq!((head.revision, head.chain), (last.revision, last.chain));
    for (name, revision) in written.iter().flatten() {
        let change = &logs[0][revision.0 as usize - 1];
        assert_eq!((change.revision, change.change.resource()), (*revision, name.clone()));
    }
    let (gaps, inversions) = (gaps(&logs[0], end), inversions(&logs[0], &written));
    let (name, revisions, took) = (db.name(), written.iter().flatten().count(), took.as_secs_f64());
    report::line(&format!(
        "figure: conformance, {name}: {WRITERS} writers × {EACH} changes: {revisions} revisions, {gaps} gaps, \
         {inversions} inversions, {took:.1} s"
    ));
    assert_eq!((gaps, inversions), (0, 0));
}

/// The counterpart: the chain value that the test recomputes depends on every column of an entry.
async fn a_changed_entry_breaks_the_chain(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    let sum = |changes: &[LoggedChange]| changes.iter().fold([0; 32], |chain, change| link(&chain, change));
    let chain = store.head().await.unwrap().chain;
    assert_eq!(sum(&all_changes(&store).await), chain);
    let mut plain = db.plain().await;
    for (doctored, back) in [
        ("time = time + 1", "time = time - 1"),
        ("actor = 'mallory'", "actor = 'root'"),
        (
            "change = replace(change, '\"last4\":\"6666\"', '\"last4\":\"6667\"')",
            "change = replace(change, '6667', '6666')",
        ),
    ] {
        let edit = |set: &str| format!("UPDATE change_log SET {set} WHERE revision = 2");
        assert_eq!(plain.run(&edit(doctored)).await, 1);
        assert_ne!(sum(&all_changes(&store).await), chain, "{doctored}");
        plain.run(&edit(back)).await;
        assert_eq!(sum(&all_changes(&store).await), chain, "{back}");
    }
}

async fn a_missing_entry_is_noticed(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    db.plain().await.run("DELETE FROM change_log WHERE revision = 2").await;
    for (after, limit) in [(Revision(0), 10), (Revision(1), 1)] {
        assert_eq!(refused(store.changes_after(after, limit).await), Reason::Internal, "after {after}");
    }
    assert_eq!(store.changes_after(START, 10).await.unwrap().len(), 1);
}

/// Loads an image. Returns the number of keys.
async fn image_loads(store: &Store) -> usize {
    let mut keys = 0;
    store.load_image(|_| keys += 1).await.unwrap();
    keys
}

async fn refused_calls_leave_no_transaction_open(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    deactivate_key(&store, &key_name("a")).await;
    for _ in 0..10 {
        for (actor, project, reason) in [
            ("mallory", "6666", Reason::PermissionDenied),
            ("root", "6666", Reason::KeyNameTaken),
            ("root", "9999", Reason::ProjectNotFound),
        ] {
            let draft = key_draft(key_name_in(project, "a"));
            let refusal = store.create_key(&to_create_key(actor, project), &draft, &secret("b")).await;
            assert_eq!(refused(refusal), reason);
        }
        deactivate_key(&store, &key_name("a")).await;
        let absent = store.deactivate_key(&to_deactivate_key("root", "6666"), &key_name("b"), "").await;
        assert_eq!(refused(absent), Reason::KeyNotFound);
    }
    db.watch(&store).await.no_transaction_is_open().await;
}

/// A caller that cancels: its call is dropped at any of its waits for the database.
async fn cancelled_calls_leave_no_transaction_open_and_no_gap(db: &Database) {
    let store = db.started().await;
    let mut watch = db.watch(&store).await;
    let mut made = Vec::new();
    for patience in 0..60 {
        let name = key_name(&format!("key_{patience}"));
        if give_up_after(patience, create_key(&store, &name)).await.is_some() {
            made.push(name.to_string());
        }
        watch.no_transaction_is_open().await;
        give_up_after(patience, image_loads(&store)).await;
        watch.no_transaction_is_open().await;
    }
    assert!((1..60).contains(&made.len()), "{} of 60 calls were cancelled", 60 - made.len());
    create_key(&store, &key_name("last")).await;
    let end = head(&store).await;
    let log = Follower::of(&store).until(end).await.changes;
    let created: Vec<_> = log.iter().map(|change| change.change.resource()).collect();
    assert!(made.iter().all(|name| created.contains(name)), "an acknowledged key is missing");
    // A call that was not acknowledged may have committed, but then completely.
    let keys = store.keys(&key_name("last").project, &KeyFilter::default(), Revision(0), 1_000).await.unwrap();
    assert_eq!(keys.len(), log.len() - 1);
    assert_eq!(image_loads(&store).await, keys.len());
}

/// Leases and snapshots do not depend on how many writers wait for the head of the log.
async fn readers_do_not_wait_for_writers(db: &Database) {
    let store = db.started().await;
    let mut plain = db.plain().await;
    plain.stop_writers().await;
    let writers: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { create_key(&store, &key_name(&format!("key_{n}"))).await })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    let reads = async {
        assert_eq!(head(&store).await, START);
        assert_eq!(all_changes(&store).await.len(), 2);
        image_loads(&store).await;
        store.now().await.unwrap();
    };
    timeout(Duration::from_secs(2), reads).await.expect("readers wait");
    plain.run("COMMIT").await;
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(head(&store).await, Revision(42));
}
