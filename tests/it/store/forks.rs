//! Databases that have lost changes: the history forks into one new epoch, and denied tokens stay denied.

use keyward_domain::{
    Change, Epoch, KeyFilter, KeyState, Permission, Position, Reason, Revision, Role, Timestamp, Uid, WithheldToken,
};
use keyward_protocol::log::LogRelation;
use keyward_store::{Call, HistoryRepair, Store};

use super::database::Database;
use super::{
    all_changes, create_key, create_member, deactivate_key, digest, head, key_name, on_all, on_platform, project_id,
    refused, to_create_key, to_create_member, to_deactivate_key,
};

on_all! {
    a_position_in_the_log_causes_no_fork_and_withholds_nothing,
    of_admins_that_detect_a_fork_one_begins_an_epoch_and_all_withhold_tokens,
    each_lost_history_is_recorded_as_one_fork,
    only_tokens_that_the_rows_accept_longer_are_withheld,
    a_withheld_key_is_listed_apart_and_cannot_be_activated,
    an_epoch_is_accepted_by_its_id_once,
    nothing_is_written_to_a_log_that_lacks_the_published_position,
    nothing_is_written_to_a_log_that_lacks_a_committed_position,
    a_committed_position_is_still_known_after_the_repair_of_another_loss,
    a_history_is_loaded_only_from_a_log_that_contains_the_position,
    a_position_without_a_valid_mac_is_rejected,
    changes_follow_only_a_position_in_the_log,
}

/// A position in a history that the database never had.
async fn lost_position(store: &Store) -> Position {
    let head = store.head().await.unwrap();
    Position { revision: Revision(head.revision.0 + 5), chain: [7; 32], ..head }
}

/// The token of a key with this uid, refused from an instant on.
fn token_of(key: &str, uid: Uid, from: i64) -> WithheldToken {
    WithheldToken { key: uid, digest: digest(&key_name(key).to_string()), from: Timestamp::from_micros(from) }
}

async fn uid_of(store: &Store, key: &str) -> Uid {
    store.key(&key_name(key)).await.unwrap().unwrap().uid
}

async fn repair(store: &Store, own: &Position, refused: &[WithheldToken]) -> HistoryRepair {
    store.repair_history(&[], own, refused).await.unwrap()
}

/// Forks the history. The lost history denied the tokens of these keys. Returns the new epoch.
pub(super) async fn fork(store: &Store, keys: &[&str]) -> Epoch {
    let mut refused = Vec::new();
    for key in keys {
        refused.push(token_of(key, uid_of(store, key).await, 1));
    }
    let repaired = repair(store, &lost_position(store).await, &refused).await;
    assert!(repaired.new_epoch && repaired.own_lost);
    repaired.head.epoch
}

fn to_accept() -> Call {
    Call { permission: Permission::EpochAccept, ..to_create_member("root") }
}

/// The kinds of the log entries about forks.
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

async fn a_position_in_the_log_causes_no_fork_and_withholds_nothing(db: &Database) {
    let store = db.started().await;
    let before = store.head().await.unwrap();
    let key = create_key(&store, &key_name("a")).await;
    assert_eq!(store.log_relation(&before).await.unwrap().0, LogRelation::InLog);
    let repaired = repair(&store, &before, &[token_of("a", key.uid, 1)]).await;
    assert_eq!((repaired.new_epoch, repaired.own_lost, repaired.withheld), (false, false, 0));
    assert_eq!(repaired.head, store.head().await.unwrap());
    let history = store.load_history(drop).await.unwrap();
    assert!(history.accepted && history.forked.is_none() && history.withheld.is_empty());
}

async fn of_admins_that_detect_a_fork_one_begins_an_epoch_and_all_withhold_tokens(db: &Database) {
    let store = db.started().await;
    let [first, second] = db.admins(&store).await;
    let (a, b) = (create_key(&store, &key_name("a")).await, create_key(&store, &key_name("b")).await);
    let lost = lost_position(&store).await;
    let before = store.head().await.unwrap();
    let (of_a, of_b) = ([token_of("a", a.uid, 1)], [token_of("b", b.uid, 1)]);
    let (one, other) = tokio::join!(repair(&first, &lost, &of_a), repair(&second, &lost, &of_b));
    assert!(one.new_epoch != other.new_epoch, "one of them");
    assert_eq!((one.head.epoch, one.withheld, other.withheld), (other.head.epoch, 1, 1));
    assert_ne!(one.head.epoch, before.epoch);
    assert_eq!(forks(&store).await, ["history_forked", "tokens_withheld", "tokens_withheld"]);
    assert_eq!(withheld(&store).await.len(), 2);
    // A third admin, which has seen only what the log has, changes nothing. Neither does an admin that repeats its call.
    let third = repair(&store, &before, &[token_of("a", a.uid, 1)]).await;
    assert_eq!((third.new_epoch, third.own_lost, third.withheld), (false, false, 0));
    assert_eq!(store.log_relation(&before).await.unwrap().0, LogRelation::InLog);
    assert_eq!(store.log_relation(&lost).await.unwrap().0, LogRelation::KnownLost);
    assert_eq!(repair(&store, &lost, &of_a).await.withheld, 0);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
}

async fn each_lost_history_is_recorded_as_one_fork(db: &Database) {
    let store = db.started().await;
    let position = store.head().await.unwrap();
    // An epoch that the database has no record of.
    let other = Position { epoch: Epoch::from_bytes([5; 16]), ..position };
    assert_eq!(store.log_relation(&other).await.unwrap().0, LogRelation::NewlyLost);
    assert!(store.repair_history(&[other], &position, &[]).await.unwrap().new_epoch);
    assert_eq!(store.log_relation(&other).await.unwrap().0, LogRelation::InLog, "the position is in the log");
    assert!(!store.repair_history(&[other], &position, &[]).await.unwrap().new_epoch);
    // The same revision with another chain value.
    let conflicting = Position { chain: [7; 32], ..store.head().await.unwrap() };
    assert!(repair(&store, &conflicting, &[]).await.new_epoch);
    assert!(!repair(&store, &conflicting, &[]).await.new_epoch);
    assert_eq!(forks(&store).await, ["history_forked"; 2]);
    let changes = all_changes(&store).await;
    let Change::HistoryForked { former, lost, known, .. } = &changes[2].change else { panic!("{changes:?}") };
    assert_eq!((*former, *lost, *known), (position.epoch, other.epoch, position.revision));
    assert_eq!(changes[2].actor.name(), "members/_platform");
}

async fn only_tokens_that_the_rows_accept_longer_are_withheld(db: &Database) {
    let store = db.started().await;
    let mut refused = Vec::new();
    for name in ["active", "dead", "later"] {
        let key = create_key(&store, &key_name(name)).await;
        refused.push(token_of(name, key.uid, 5));
    }
    deactivate_key(&store, &key_name("dead")).await;
    let unknown = Uid::generate();
    refused.push(WithheldToken { key: unknown, digest: digest("gone"), from: Timestamp::from_micros(5) });
    let lost = lost_position(&store).await;
    assert_eq!(repair(&store, &lost, &refused).await.withheld, 2);
    // Another admin knows an earlier end for one token, and a later end for the other.
    let mut known = withheld(&store).await;
    assert!(known.iter().all(|token| token.from.as_micros() == 5), "{known:?}");
    known[0].from = Timestamp::MIN;
    known[1].from = Timestamp::from_micros(6);
    assert_eq!(repair(&store, &lost, &known).await.withheld, 1);
    assert_eq!(withheld(&store).await[0].from, Timestamp::MIN);
    assert_eq!(withheld(&store).await[1].from, Timestamp::from_micros(5));
    // The row itself is as it was.
    assert_eq!(store.key(&key_name("active")).await.unwrap().unwrap().state, KeyState::Active);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
    // More tokens than one entry holds.
    let many: Vec<_> =
        (0..1_200).map(|n| WithheldToken { digest: digest(&n.to_string()), ..known[0].clone() }).collect();
    assert_eq!(repair(&store, &lost, &many).await.withheld, 0, "tokens that the database does not have");
}

async fn a_withheld_key_is_listed_apart_and_cannot_be_activated(db: &Database) {
    let store = db.started().await;
    for name in ["a", "b", "dead"] {
        create_key(&store, &key_name(name)).await;
    }
    let epoch = fork(&store, &["a", "dead"]).await;
    deactivate_key(&store, &key_name("dead")).await;
    let project = project_id("6666");
    let listed = async |filter: &str| {
        let filter = KeyFilter::parse(filter, &project).unwrap();
        let keys = store.keys(&project, &filter, Revision(0), 10).await.unwrap();
        keys.iter().map(|key| key.name.key.to_string()).collect::<Vec<_>>()
    };
    let activate = async |name: &str| {
        let call = Call { permission: Permission::KeyActivate, ..to_deactivate_key("root", "6666") };
        store.activate_key(&call, &key_name(name), "").await
    };
    let default = "6666_default_193444";
    assert_eq!(listed("state = WITHHELD").await, ["a"]);
    assert_eq!(listed("state = ACTIVE").await, [default, "b"]);
    assert_eq!(listed("state = DEACTIVATED").await, ["dead"]);
    let before = head(&store).await;
    for name in ["a", "dead"] {
        assert_eq!(refused(activate(name).await), Reason::KeyWithheld, "{name}");
    }
    activate("b").await.unwrap();
    assert_eq!(head(&store).await, before, "nothing was written");
    store.accept_epoch(&to_accept(), epoch).await.unwrap();
    assert_eq!(listed("state = ACTIVE").await, [default, "a", "b"]);
    activate("dead").await.unwrap();
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
}

async fn an_epoch_is_accepted_by_its_id_once(db: &Database) {
    let store = db.started().await;
    let initial = store.head().await.unwrap().epoch;
    let at_first = store.accept_epoch(&to_accept(), initial).await.unwrap();
    assert_eq!((at_first.revision, at_first.released), (head(&store).await, 0), "the first epoch needs no acceptance");
    let key = create_key(&store, &key_name("a")).await;
    let epoch = fork(&store, &["a"]).await;
    assert!(!store.load_history(drop).await.unwrap().accepted);
    assert_eq!(refused(store.accept_epoch(&to_accept(), initial).await), Reason::EpochMismatch);
    create_member(&store, "alice", &[on_platform(Role::Support)]).await;
    let by_support = Call { permission: Permission::EpochAccept, ..to_create_member("alice") };
    assert_eq!(refused(store.accept_epoch(&by_support, epoch).await), Reason::PermissionDenied);
    let accepted = store.accept_epoch(&to_accept(), epoch).await.unwrap();
    assert_eq!((accepted.revision, accepted.released), (head(&store).await, 1));
    assert!(store.load_history(drop).await.unwrap().accepted && withheld(&store).await.is_empty());
    let again = store.accept_epoch(&to_accept(), epoch).await.unwrap();
    assert_eq!((again.revision, again.released), (accepted.revision, 0));
    // An admin that reports after the acceptance withholds nothing.
    let late = Position { epoch: initial, revision: Revision(99), chain: [1; 32] };
    let repaired = repair(&store, &late, &[token_of("a", key.uid, 1)]).await;
    assert_eq!((repaired.new_epoch, repaired.own_lost, repaired.withheld), (false, true, 0));
    assert_eq!(forks(&store).await, ["history_forked", "tokens_withheld", "epoch_accepted"]);
    assert_eq!(store.verify_log(None).await.unwrap().findings, []);
}

async fn nothing_is_written_to_a_log_that_lacks_the_published_position(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    deactivate_key(&store, &key_name("a")).await;
    let end = store.head().await.unwrap();
    let deactivate = to_deactivate_key("root", "6666");
    store.record_published(lost_position(&store).await);
    let create = to_create_key("root", "6666");
    let activate = Call { permission: Permission::KeyActivate, ..create };
    assert_eq!(refused(store.activate_key(&activate, &key_name("a"), "").await), Reason::StoreUnavailable);
    // A retry is not acknowledged either, because its fence would be about another history.
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    assert_eq!(refused(store.checked_head().await), Reason::StoreUnavailable);
    store.record_published(Position { epoch: Epoch::from_bytes([5; 16]), ..end });
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    assert_eq!(store.head().await.unwrap(), end);
    // Seeing the head itself does not help.
    store.record_published(Position { revision: Revision(1), chain: [7; 32], ..end });
    store.record_seen(end);
    assert_eq!(store.newest_seen(), Some(end));
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    store.record_published(end);
    store.activate_key(&activate, &key_name("a"), "").await.unwrap();
    // The published position is no longer the head, but it is in the log.
    deactivate_key(&store, &key_name("a")).await;
    store.deactivate_key(&deactivate, &key_name("a"), "").await.unwrap();
}

async fn changes_follow_only_a_position_in_the_log(db: &Database) {
    let store = db.started().await;
    let position = store.head().await.unwrap();
    assert_eq!(store.changes_following(&position, 3).await.unwrap(), Some(vec![]));
    for name in ["a", "b", "c", "d"] {
        create_key(&store, &key_name(name)).await;
    }
    let all = all_changes(&store).await;
    assert_eq!(store.changes_following(&position, 3).await.unwrap().unwrap(), all[2..5]);
    for wrong in [Position { chain: [7; 32], ..position }, Position { revision: Revision(99), ..position }] {
        assert_eq!(store.changes_following(&wrong, 3).await.unwrap(), None);
    }
}

async fn nothing_is_written_to_a_log_that_lacks_a_committed_position(db: &Database) {
    let store = db.started().await;
    create_key(&store, &key_name("a")).await;
    let before = store.head().await.unwrap();
    assert_eq!(store.newest_seen(), Some(before), "the position of the last commit");
    store.record_published(before);
    // A committed position that was lost before it was published. Another change may get its revision.
    let lost = Position { revision: before.revision.next(), chain: [7; 32], ..before };
    store.record_seen(lost);
    assert_eq!(store.newest_seen(), Some(lost));
    assert_eq!(store.conflicting_position(&Position { chain: [8; 32], ..lost }), Some(lost));
    assert_eq!(store.conflicting_position(&lost), None);
    assert_eq!(refused(store.checked_head().await), Reason::StoreUnavailable);
    let deactivate = to_deactivate_key("root", "6666");
    assert_eq!(refused(store.deactivate_key(&deactivate, &key_name("a"), "").await), Reason::StoreUnavailable);
    // The repair compares it and discards it. The published position stays.
    let repaired = store.repair_history(&[lost], &before, &[]).await.unwrap();
    assert_eq!((repaired.new_epoch, repaired.own_lost), (true, false));
    assert_eq!(store.newest_seen(), Some(before));
    store.record_published(repaired.head);
    deactivate_key(&store, &key_name("a")).await;
}

async fn a_committed_position_is_still_known_after_the_repair_of_another_loss(db: &Database) {
    let store = db.started().await;
    store.record_published(store.head().await.unwrap());
    create_key(&store, &key_name("a")).await;
    let committed = store.head().await.unwrap();
    // A validator names a position that the database has lost. The commit above is in the log, and is not published yet.
    let lost = Position { chain: [7; 32], revision: committed.revision.next(), ..committed };
    let repaired = store.repair_history(&[lost], &committed, &[]).await.unwrap();
    assert_eq!((repaired.new_epoch, repaired.own_lost), (true, false));
    // A second restore may lose the commit, and give its revision to another change.
    let other = Position { chain: [8; 32], ..committed };
    let known = Position { epoch: repaired.head.epoch, ..committed };
    assert_eq!(store.conflicting_position(&other), Some(known));
    // Once the repair is published, the store writes in the new epoch.
    store.record_published(repaired.head);
    deactivate_key(&store, &key_name("a")).await;
}

async fn a_history_is_loaded_only_from_a_log_that_contains_the_position(db: &Database) {
    let store = db.started().await;
    let position = store.head().await.unwrap();
    create_key(&store, &key_name("a")).await;
    let history = store.load_history_with(&position, drop).await.unwrap().unwrap();
    assert_eq!(history.head, store.head().await.unwrap());
    for absent in [lost_position(&store).await, Position { chain: [7; 32], ..position }] {
        assert!(store.load_history_with(&absent, drop).await.unwrap().is_none());
    }
}

async fn a_position_without_a_valid_mac_is_rejected(db: &Database) {
    let store = db.started().await;
    let position = store.head().await.unwrap();
    let (epoch, signed) = (position.epoch.to_string(), store.sign_position(&position));
    assert_eq!(store.verify_position(&epoch, position.revision, &signed), Some(position));
    let other_epoch = Epoch::generate().to_string();
    assert_eq!(store.verify_position(&other_epoch, position.revision, &signed), None);
    assert_eq!(store.verify_position(&epoch, position.revision.next(), &signed), None);
    assert_eq!(store.verify_position(&epoch, position.revision, &position.chain), None);
    assert_eq!(store.verify_position("none", position.revision, &signed), None);
    for byte in 0..signed.len() {
        let mut forged = signed.clone();
        forged[byte] ^= 1;
        assert_eq!(store.verify_position(&epoch, position.revision, &forged), None);
    }
}
