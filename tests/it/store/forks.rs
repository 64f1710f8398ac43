//! Histories that have lost changes: one new epoch, whoever notices first, and what was refused stays refused.

use keyward_domain::{
    Change, Epoch, KeyState, Permission, Position, Reason, Revision, Role, Timestamp, Uid, WithheldToken,
};
use keyward_store::{Call, HistoryRepair, PositionStatus, Store};

use super::database::Database;
use super::{
    all_changes, create_key, create_member, deactivate_key, digest, head, key_name, on_all, on_platform, refused,
    to_create_key, to_create_member, to_deactivate_key,
};

on_all! {
    a_place_in_the_log_is_no_fork_and_nothing_is_withheld_for_it,
    of_admins_that_notice_a_fork_one_mints_an_epoch_and_all_say_what_they_know,
    each_history_that_was_lost_makes_one_fork,
    what_is_withheld_is_what_the_rows_let_pass_for_longer,
    an_epoch_is_accepted_by_its_name_once,
    nothing_is_changed_in_a_history_that_lacks_what_was_told,
    nothing_is_changed_in_a_history_that_lacks_what_was_committed,
    a_place_that_nobody_was_told_proves_nothing,
    a_log_is_followed_from_a_place_that_it_has_only,
}

/// A place in a history that the database never had.
async fn lost_place(store: &Store) -> Position {
    let head = store.head().await.unwrap();
    Position { revision: Revision(head.revision.0 + 5), chain: [7; 32], ..head }
}

/// The token of a key, refused from an instant on; `uid`: the key's.
fn token_of(key: &str, uid: Uid, from: i64) -> WithheldToken {
    WithheldToken { key: uid, digest: digest(&key_name(key).to_string()), from: Timestamp::from_micros(from) }
}

async fn uid_of(store: &Store, key: &str) -> Uid {
    store.key(&key_name(key)).await.unwrap().unwrap().uid
}

async fn mend(store: &Store, own: &Position, refused: &[WithheldToken]) -> HistoryRepair {
    store.repair_history(&[], own, refused).await.unwrap()
}

/// Has the history fork, with these keys' tokens refused in the lost one; returns the new epoch.
pub(super) async fn fork(store: &Store, keys: &[&str]) -> Epoch {
    let mut refused = Vec::new();
    for key in keys {
        refused.push(token_of(key, uid_of(store, key).await, 1));
    }
    let mended = mend(store, &lost_place(store).await, &refused).await;
    assert!(mended.new_epoch && mended.own_lost);
    mended.head.epoch
}

fn to_accept() -> Call {
    Call { permission: Permission::EpochAccept, ..to_create_member("root") }
}

/// What the log says of the platform's own doings.
async fn forks(store: &Store) -> Vec<&'static str> {
    let all = all_changes(store).await;
    let own = all.iter().map(|change| change.change.kind());
    own.filter(|kind| ["history_forked", "tokens_withheld", "epoch_accepted"].contains(kind)).collect()
}

async fn withheld(store: &Store) -> Vec<WithheldToken> {
    let mut withheld = store.load_history(drop).await.unwrap().withheld;
    withheld.sort_by_key(|token| *token.digest.as_bytes());
    withheld
}

async fn a_place_in_the_log_is_no_fork_and_nothing_is_withheld_for_it(db: &Database) {
    let store = db.started().await;
    let before = store.head().await.unwrap();
    let key = create_key(&store, &key_name("a")).await;
    assert_eq!(store.position_status(&before).await.unwrap().0, PositionStatus::InLog);
    let mended = mend(&store, &before, &[token_of("a", key.uid, 1)]).await;
    assert_eq!((mended.new_epoch, mended.own_lost, mended.withheld), (false, false, 0));
    assert_eq!(mended.head, store.head().await.unwrap());
    let history = store.load_history(drop).await.unwrap();
    assert!(history.accepted && history.forked.is_none() && history.withheld.is_empty());
}

async fn of_admins_that_notice_a_fork_one_mints_an_epoch_and_all_say_what_they_know(db: &Database) {
    let store = db.started().await;
    let [first, second] = db.admins(&store).await;
    let (a, b) = (create_key(&store, &key_name("a")).await, create_key(&store, &key_name("b")).await);
    let lost = lost_place(&store).await;
    let before = store.head().await.unwrap();
    let (of_a, of_b) = ([token_of("a", a.uid, 1)], [token_of("b", b.uid, 1)]);
    let (one, other) = tokio::join!(mend(&first, &lost, &of_a), mend(&second, &lost, &of_b));
    assert!(one.new_epoch != other.new_epoch, "one of them");
    assert_eq!((one.head.epoch, one.withheld, other.withheld), (other.head.epoch, 1, 1));
    assert_ne!(one.head.epoch, before.epoch);
    assert_eq!(forks(&store).await, ["history_forked", "tokens_withheld", "tokens_withheld"]);
    assert_eq!(withheld(&store).await.len(), 2);
    // A third one, which has seen no more than the database has, takes it as it is; and so does one that comes again.
    let third = mend(&store, &before, &[token_of("a", a.uid, 1)]).await;
    assert_eq!((third.new_epoch, third.own_lost, third.withheld), (false, false, 0));
    assert_eq!(store.position_status(&before).await.unwrap().0, PositionStatus::InLog);
    assert_eq!(store.position_status(&lost).await.unwrap().0, PositionStatus::KnownLost);
    assert_eq!(mend(&store, &lost, &of_a).await.withheld, 0);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
}

async fn each_history_that_was_lost_makes_one_fork(db: &Database) {
    let store = db.started().await;
    let place = store.head().await.unwrap();
    // An epoch that the database does not even know the name of.
    let other = Position { epoch: Epoch::from_bytes([5; 16]), ..place };
    assert_eq!(store.position_status(&other).await.unwrap().0, PositionStatus::NewlyLost);
    assert!(store.repair_history(&[other], &place, &[]).await.unwrap().new_epoch);
    assert_eq!(store.position_status(&other).await.unwrap().0, PositionStatus::InLog, "its place is here");
    assert!(!store.repair_history(&[other], &place, &[]).await.unwrap().new_epoch);
    // The same revision with another past.
    let parted = Position { chain: [7; 32], ..store.head().await.unwrap() };
    assert!(mend(&store, &parted, &[]).await.new_epoch);
    assert!(!mend(&store, &parted, &[]).await.new_epoch);
    assert_eq!(forks(&store).await, ["history_forked"; 2]);
    let changes = all_changes(&store).await;
    let Change::HistoryForked { former, lost, known, .. } = &changes[2].change else { panic!("{changes:?}") };
    assert_eq!((*former, *lost, *known), (place.epoch.into(), other.epoch.into(), place.revision));
    assert_eq!(changes[2].actor.name(), "members/_platform");
}

async fn what_is_withheld_is_what_the_rows_let_pass_for_longer(db: &Database) {
    let store = db.started().await;
    let mut refused = Vec::new();
    for name in ["active", "dead", "later"] {
        let key = create_key(&store, &key_name(name)).await;
        refused.push(token_of(name, key.uid, 5));
    }
    deactivate_key(&store, &key_name("dead")).await;
    let nobody = Uid::generate();
    refused.push(WithheldToken { key: nobody, digest: digest("gone"), from: Timestamp::from_micros(5) });
    let lost = lost_place(&store).await;
    assert_eq!(mend(&store, &lost, &refused).await.withheld, 2);
    // Another one knows of an earlier end, and of a later one.
    let mut known = withheld(&store).await;
    assert!(known.iter().all(|token| token.from.as_micros() == 5), "{known:?}");
    known[0].from = Timestamp::MIN;
    known[1].from = Timestamp::from_micros(6);
    assert_eq!(mend(&store, &lost, &known).await.withheld, 1);
    assert_eq!(withheld(&store).await[0].from, Timestamp::MIN);
    assert_eq!(withheld(&store).await[1].from, Timestamp::from_micros(5));
    // The row itself is as it was.
    assert_eq!(store.key(&key_name("active")).await.unwrap().unwrap().state, KeyState::Active);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
    // More than fit in one entry.
    let many: Vec<_> =
        (0..1_200).map(|n| WithheldToken { digest: digest(&n.to_string()), ..known[0].clone() }).collect();
    assert_eq!(mend(&store, &lost, &many).await.withheld, 0, "tokens that the database does not know");
}

async fn an_epoch_is_accepted_by_its_name_once(db: &Database) {
    let store = db.started().await;
    let initial = store.head().await.unwrap().epoch;
    let at_first = store.accept_epoch(&to_accept(), initial.into()).await.unwrap();
    assert_eq!((at_first.revision, at_first.released), (head(&store).await, 0), "there is nothing to accept");
    let key = create_key(&store, &key_name("a")).await;
    let epoch = fork(&store, &["a"]).await;
    assert!(!store.load_history(drop).await.unwrap().accepted);
    assert_eq!(refused(store.accept_epoch(&to_accept(), initial.into()).await), Reason::EpochMismatch);
    create_member(&store, "alice", &[on_platform(Role::Support)]).await;
    let by_support = Call { permission: Permission::EpochAccept, ..to_create_member("alice") };
    assert_eq!(refused(store.accept_epoch(&by_support, epoch).await), Reason::PermissionDenied);
    let accepted = store.accept_epoch(&to_accept(), epoch).await.unwrap();
    assert_eq!((accepted.revision, accepted.released), (head(&store).await, 1));
    assert!(store.load_history(drop).await.unwrap().accepted && withheld(&store).await.is_empty());
    let again = store.accept_epoch(&to_accept(), epoch).await.unwrap();
    assert_eq!((again.revision, again.released), (accepted.revision, 0));
    // Who comes late has nothing to say any more.
    let late = Position { epoch: initial, revision: Revision(99), chain: [1; 32] };
    let mended = mend(&store, &late, &[token_of("a", key.uid, 1)]).await;
    assert_eq!((mended.new_epoch, mended.own_lost, mended.withheld), (false, true, 0));
    assert_eq!(forks(&store).await, ["history_forked", "tokens_withheld", "epoch_accepted"]);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
}

async fn nothing_is_changed_in_a_history_that_lacks_what_was_told(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    deactivate_key(&store, &key_name("a")).await;
    let end = store.head().await.unwrap();
    let deactivate = to_deactivate_key("root", "6666");
    store.record_published(lost_place(&store).await);
    let create = to_create_key("root", "6666");
    let activate = Call { permission: Permission::KeyActivate, ..create };
    assert_eq!(refused(store.activate_key(&activate, &key_name("a"), "").await), Reason::StoreUnavailable);
    // Nor is a retry told that it is done: its fence would be another history's.
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    assert_eq!(refused(store.checked_head().await), Reason::StoreUnavailable);
    store.record_published(Position { epoch: Epoch::from_bytes([5; 16]), ..end });
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    assert_eq!(store.head().await.unwrap(), end);
    // Nor does it help that the end itself was seen meanwhile.
    store.record_published(Position { revision: Revision(1), chain: [7; 32], ..end });
    store.record_seen(end);
    assert_eq!(store.newest_seen(), Some(end));
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    store.record_published(end);
    store.activate_key(&activate, &key_name("a"), "").await.unwrap();
    // What was told is not the end any more, but in the log.
    deactivate_key(&store, &key_name("a")).await;
    store.deactivate_key(&deactivate, &key_name("a"), "").await.unwrap();
}

async fn a_log_is_followed_from_a_place_that_it_has_only(db: &Database) {
    let store = db.started().await;
    let place = store.head().await.unwrap();
    assert_eq!(store.changes_following(&place, 3).await.unwrap(), Some(vec![]));
    for name in ["a", "b", "c", "d"] {
        create_key(&store, &key_name(name)).await;
    }
    let all = all_changes(&store).await;
    assert_eq!(store.changes_following(&place, 3).await.unwrap().unwrap(), all[2..5]);
    for wrong in [Position { chain: [7; 32], ..place }, Position { revision: Revision(99), ..place }] {
        assert_eq!(store.changes_following(&wrong, 3).await.unwrap(), None);
    }
}

async fn nothing_is_changed_in_a_history_that_lacks_what_was_committed(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    let before = store.head().await.unwrap();
    assert_eq!(store.newest_seen(), Some(before), "what this process has committed");
    store.record_published(before);
    // Committed, and lost before anybody was told of it; another change may get its number.
    let lost = Position { revision: before.revision.next(), chain: [7; 32], ..before };
    store.record_seen(lost);
    assert_eq!(store.newest_seen(), Some(lost));
    assert_eq!(store.conflicting_position(&Position { chain: [8; 32], ..lost }), Some(lost));
    assert_eq!(store.conflicting_position(&lost), None);
    assert_eq!(refused(store.checked_head().await), Reason::StoreUnavailable);
    let deactivate = to_deactivate_key("root", "6666");
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    // Looked for, it is gone; what was told is not.
    let mended = store.repair_history(&[lost], &before, &[]).await.unwrap();
    assert_eq!((mended.new_epoch, mended.own_lost), (true, false));
    assert_eq!(store.newest_seen(), Some(before));
    store.record_published(mended.head);
    deactivate_key(&store, &key_name("a")).await;
}

async fn a_place_that_nobody_was_told_proves_nothing(db: &Database) {
    let store = db.started().await;
    let place = store.head().await.unwrap();
    let (epoch, proven) = (place.epoch.to_string(), store.sign_position(&place));
    assert_eq!(store.verify_position(&epoch, place.revision, &proven), Some(place));
    let other_epoch = Epoch::generate().to_string();
    assert_eq!(store.verify_position(&other_epoch, place.revision, &proven), None);
    assert_eq!(store.verify_position(&epoch, place.revision.next(), &proven), None);
    assert_eq!(store.verify_position(&epoch, place.revision, &place.chain), None);
    assert_eq!(store.verify_position("none", place.revision, &proven), None);
    for byte in 0..proven.len() {
        let mut forged = proven.clone();
        forged[byte] ^= 1;
        assert_eq!(store.verify_position(&epoch, place.revision, &forged), None);
    }
}
