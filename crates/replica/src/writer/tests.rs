#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::sync::Mutex;

use keyward_domain::{
    Epoch, Expectation, KeyEntry, KeyId, KeyName, Platform, Position, ProjectId, Timestamp, TokenEntry, Uid, Verdict,
};
use keyward_protocol::Instant;
use keyward_token::{DigestKey, Token, TokenFormat, TokenKind};

use super::*;
use crate::replica::NoAnswer;

/// A clock that moves only when advanced.
#[derive(Debug, Default)]
struct ManualClock(Mutex<Cell<i64>>);

impl ManualClock {
    fn advance(&self, duration: Duration) {
        let nanos = self.0.lock().unwrap();
        nanos.set(nanos.get() + i64::try_from(duration.as_nanos()).unwrap());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.lock().unwrap().get())
    }
}

struct Bed {
    replica: Arc<Replica<ManualClock>>,
    writer: ReplicaWriter<ManualClock>,
    digest_key: DigestKey,
    seq: u64,
    /// The session that messages belong to.
    session: HolderSession,
    epochs: BTreeMap<HolderSession, Epoch>,
}

const LEASE: Duration = Duration::from_secs(2);

impl Bed {
    fn new() -> Self {
        let replica = Arc::new(Replica::new(ManualClock::default()));
        let writer = ReplicaWriter::new(Arc::clone(&replica));
        let (digest_key, session) = (DigestKey::new(1, [9; 32]), HolderSession(0));
        Self { replica, writer, digest_key, seq: 0, session, epochs: BTreeMap::new() }
    }

    /// Begins a session after the one before has broken. Returns the position of its Hello.
    fn begin(&mut self) -> Option<ProvenPosition> {
        self.writer.break_stream(self.session);
        self.begin_beside()
    }

    /// Begins a session beside the one before.
    fn begin_beside(&mut self) -> Option<ProvenPosition> {
        let Opening { session, position, .. } = self.writer.begin();
        self.session = session;
        self.epochs.extend(position.map(|position| (session, position.position.epoch)));
        position
    }

    fn welcome(&mut self, epoch: &str, snapshot: bool) -> Result<(), FollowerError> {
        self.welcome_with(Welcome { snapshot, ..hello(epoch) })
    }

    fn welcome_with(&mut self, welcome: Welcome) -> Result<(), FollowerError> {
        let keys = TokenKeys { format: TokenFormat::default(), digest_keys: vec![self.digest_key.clone()] };
        self.writer.welcome(self.session, welcome, keys)?;
        self.epochs.insert(self.session, welcome.epoch);
        Ok(())
    }

    /// Passes a message of a session on, its position being of the session's epoch.
    fn receive(
        &mut self,
        id: HolderSession,
        mut message: Message<TableWriter>,
    ) -> Result<Option<Revision>, FollowerError> {
        if let (Message::Chunk { complete: Some(position), .. } | Message::Delta { position, .. }, Some(epoch)) =
            (&mut message, self.epochs.get(&id))
        {
            position.position.epoch = *epoch;
        }
        self.writer.receive(id, message)
    }

    /// Begins a session with a snapshot of `keys` at `revision`.
    fn snapshot(&mut self, epoch: &str, revision: i64, keys: Vec<KeyEntry>) -> Result<Option<Revision>, FollowerError> {
        self.begin();
        self.welcome(epoch, true)?;
        self.receive(self.session, Message::Chunk { keys, complete: Some(position(revision)) })
    }

    fn delta(&mut self, revision: i64, keys: Vec<KeyEntry>) -> Result<Option<Revision>, FollowerError> {
        self.receive(self.session, Message::Delta { position: position(revision), keys, accepted: false })
    }

    fn renew(&mut self) -> u64 {
        self.seq += 1;
        self.writer.renewing(self.session, self.seq);
        self.seq
    }

    fn grant(&mut self, seq: u64, wall_micros: i64) {
        let wall_time = Timestamp::from_micros(wall_micros);
        self.receive(self.session, Message::Grant { seq, duration: LEASE, wall_time }).unwrap();
    }

    fn lease(&mut self) {
        let seq = self.renew();
        self.grant(seq, 0);
    }

    fn entry(&self, token: &Token, active: bool) -> KeyEntry {
        let parsed = TokenFormat::default();
        let digest = self.digest_key.digest(parsed.parse(token.expose()).unwrap());
        KeyEntry {
            uid: Uid::from_bytes([1; 16]),
            name: KeyName {
                project: ProjectId::from_store("6666".to_owned()),
                key: KeyId::from_store("server_prod".to_owned()),
            },
            platform: Platform::Server,
            active,
            expire_time: None,
            tokens: vec![TokenEntry { digest, digest_key_id: 1, generation: 1, not_after: None }],
        }
    }

    fn verdict(&self, token: &Token) -> Result<Verdict, NoAnswer> {
        self.replica.judge(token.expose(), &Expectation::default(), Revision(0)).map(|a| a.verdict)
    }
}

/// A position of the session that it is sent in; [`Bed::receive`] fills the epoch in.
fn position(revision: i64) -> ProvenPosition {
    position_with(revision, 0)
}

fn position_with(revision: i64, chain: u8) -> ProvenPosition {
    let position = Position { epoch: epoch("e"), revision: Revision(revision), chain: [chain; 32] };
    ProvenPosition { position, mac: [chain; 32] }
}

fn epoch(name: &str) -> Epoch {
    let mut bytes = [0; 16];
    name.bytes().zip(&mut bytes).for_each(|(letter, byte)| *byte = letter);
    Epoch::from_bytes(bytes)
}

fn hello(name: &str) -> Welcome {
    Welcome { epoch: epoch(name), snapshot: true, accepted: false, continues: false }
}

fn token() -> Token {
    Token::generate(&TokenFormat::default(), TokenKind::Server).unwrap()
}

#[test]
fn a_change_is_visible_before_it_is_acknowledged() {
    let (mut bed, token) = (Bed::new(), token());
    assert_eq!(bed.snapshot("e", 1, vec![]), Ok(Some(Revision(1))));
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    assert_eq!(bed.delta(2, vec![bed.entry(&token, true)]), Ok(Some(Revision(2))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    assert_eq!(bed.delta(3, vec![bed.entry(&token, false)]), Ok(Some(Revision(3))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn a_token_that_its_key_no_longer_has_is_unknown() {
    let (mut bed, old, new) = (Bed::new(), token(), token());
    bed.snapshot("e", 1, vec![bed.entry(&old, true)]).unwrap();
    bed.lease();
    bed.delta(2, vec![bed.entry(&new, true)]).unwrap();
    assert_eq!(bed.verdict(&old), Ok(Verdict::Unknown));
    assert_eq!(bed.verdict(&new), Ok(Verdict::Valid));
}

#[test]
fn without_a_lease_there_is_no_answer() {
    let (mut bed, token) = (Bed::new(), token());
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.snapshot("e", 1, vec![bed.entry(&token, true)]).unwrap();
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.replica.clock().advance(LEASE);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_lease_counts_from_before_the_renewal_was_sent() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    let seq = bed.renew();
    bed.replica.clock().advance(Duration::from_millis(1_500));
    bed.grant(seq, 0);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    bed.replica.clock().advance(Duration::from_millis(500));
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_grant_that_answers_no_renewal_gives_nothing() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.grant(77, 0);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    let first = bed.renew();
    let second = bed.renew();
    bed.grant(second, 0);
    bed.replica.clock().advance(LEASE);
    // A newer grant voids older renewals.
    bed.grant(first, 0);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_broken_session_keeps_its_lease_and_the_next_session_continues_from_its_position() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    assert_eq!(bed.begin(), Some(position(4)));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.welcome("e", false).unwrap();
    bed.delta(5, vec![bed.entry(&token, false)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.replica.clock().advance(LEASE);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_lease_ends_with_the_goodbye_of_its_session() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.writer.leave(bed.session);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    // A lease of a second session remains valid when the first session ends.
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.begin();
    bed.welcome("e", false).unwrap();
    bed.writer.leave(bed.session);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
}

#[test]
fn a_lease_of_another_history_is_not_valid() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![]).unwrap();
    bed.lease();
    bed.snapshot("restored", 3, vec![]).unwrap();
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_grant_of_an_earlier_session_gives_nothing() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    let seq = bed.renew();
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.grant(seq, 0);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_gap_ends_the_session_and_asks_for_a_snapshot() {
    let mut bed = Bed::new();
    bed.snapshot("e", 1, vec![]).unwrap();
    assert_eq!(bed.delta(3, vec![]), Err(FollowerError::Gap));
    bed.writer.break_stream(bed.session);
    let opening = bed.writer.begin();
    assert_eq!((opening.position, opening.snapshot), (Some(position(1)), true));
    bed.session = opening.session;
    // A replica never goes back, even to fill a gap.
    bed.welcome("e", true).unwrap();
    let older = Message::Chunk { keys: vec![], complete: Some(position(0)) };
    assert_eq!(bed.receive(bed.session, older), Err(FollowerError::WentBack));
    bed.snapshot("e", 3, vec![]).unwrap();
    assert!(!bed.writer.begin().snapshot);
}

#[test]
fn within_an_epoch_a_replica_never_goes_back() {
    let mut bed = Bed::new();
    bed.snapshot("e", 5, vec![]).unwrap();
    assert_eq!(bed.snapshot("e", 4, vec![]), Err(FollowerError::WentBack));
    assert_eq!(bed.replica.revision(), Revision(5));
    assert_eq!(bed.snapshot("other", 1, vec![]), Ok(Some(Revision(1))));
}

#[test]
fn a_snapshot_is_invisible_until_it_is_whole() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.begin();
    bed.welcome("e", true).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.receive(bed.session, Message::Chunk { keys, complete: None }).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    assert!(!bed.writer.is_complete(bed.session));
    assert_eq!(bed.delta(2, vec![]), Err(FollowerError::OutOfOrder));
}

#[test]
fn a_revision_that_is_not_reached_gives_no_answer() {
    let mut bed = Bed::new();
    bed.snapshot("e", 3, vec![]).unwrap();
    bed.lease();
    let judge = |revision| bed.replica.judge("x", &Expectation::default(), Revision(revision)).map(|a| a.verdict);
    assert_eq!(judge(3), Ok(Verdict::Malformed));
    assert_eq!(judge(4), Err(NoAnswer::Behind { reached: Revision(3) }));
}

#[test]
fn expiry_is_judged_by_the_databases_clock() {
    let (mut bed, token) = (Bed::new(), token());
    let mut entry = bed.entry(&token, true);
    entry.expire_time = Some(Timestamp::from_micros(1_000_000));
    bed.snapshot("e", 1, vec![entry]).unwrap();
    let seq = bed.renew();
    bed.grant(seq, 0);
    bed.replica.clock().advance(Duration::from_micros(999_999));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.replica.clock().advance(Duration::from_micros(1));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Expired));
}

#[test]
fn a_validator_with_two_sessions_applies_each_change_once() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.welcome("e", false).unwrap();
    // The old admin is first with one change, the new admin with the next.
    bed.session = old;
    assert_eq!(bed.delta(2, vec![bed.entry(&token, false)]), Ok(Some(Revision(2))));
    bed.session = new;
    assert_eq!(bed.delta(2, vec![bed.entry(&token, false)]), Ok(Some(Revision(2))));
    assert_eq!(bed.delta(3, vec![bed.entry(&token, true)]), Ok(Some(Revision(3))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.session = old;
    assert_eq!(bed.delta(3, vec![bed.entry(&token, true)]), Ok(Some(Revision(3))));
    assert_eq!(bed.delta(5, vec![]), Err(FollowerError::Gap), "each stream is whole in itself");
    // Leaving the old session ends its lease, and the new session has none yet.
    bed.writer.leave(old);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.session = new;
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    assert_eq!(bed.writer.lease_left(new), LEASE);
    bed.session = old;
    assert_eq!(bed.delta(4, vec![]), Err(FollowerError::OutOfOrder), "that session is over");
}

#[test]
fn a_snapshot_older_than_the_replica_is_served_only_after_its_deltas_have_caught_up() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.welcome("e", true).unwrap();
    bed.session = old;
    bed.delta(6, vec![bed.entry(&token, true)]).unwrap();
    bed.session = new;
    let part = Message::Chunk { keys: vec![], complete: Some(position(5)) };
    assert_eq!(bed.receive(new, part), Ok(None));
    assert!(!bed.writer.is_complete(new));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid), "what is served does not go back");
    assert_eq!(bed.delta(6, vec![bed.entry(&token, true)]), Ok(Some(Revision(6))));
    assert!(bed.writer.is_complete(new));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

#[test]
fn another_history_is_refused_while_leases_of_the_served_one_are_valid() {
    let mut bed = Bed::new();
    bed.snapshot("e", 5, vec![]).unwrap();
    bed.lease();
    bed.begin_beside();
    assert_eq!(bed.welcome("other", true), Err(FollowerError::Forked));
    bed.begin_beside();
    bed.welcome("e", false).unwrap();
    let delta = Message::Delta { position: position_with(6, 1), keys: vec![], accepted: false };
    bed.receive(bed.session, delta).unwrap();
    bed.begin();
    bed.welcome("e", true).unwrap();
    bed.receive(bed.session, Message::Chunk { keys: vec![], complete: Some(position(5)) }).unwrap();
    assert_eq!(bed.delta(6, vec![]), Err(FollowerError::Forked), "the same revision has another chain value");
}

/// A rotation without grace writes an instant that is in the past on every clock.
#[test]
fn a_token_that_ended_in_the_past_is_refused_by_every_clock() {
    let (mut bed, token) = (Bed::new(), token());
    let mut entry = bed.entry(&token, true);
    entry.tokens[0].not_after = Some(Timestamp::from_micros(1));
    bed.snapshot("e", 1, vec![entry]).unwrap();
    for slow in [1_000_000_000_000_000, 5] {
        let seq = bed.renew();
        bed.grant(seq, slow);
        assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    }
}

/// An admin that grants no lease does not block another history: it may be cut off for good.
#[test]
fn a_history_without_valid_leases_is_replaced_by_another() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.replica.clock().advance(LEASE);
    bed.begin_beside();
    bed.welcome("other", true).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.receive(bed.session, Message::Chunk { keys, complete: Some(position(3)) }).unwrap();
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.session = old;
    assert_eq!(bed.delta(6, vec![]), Err(FollowerError::OutOfOrder), "that history is over");
}

fn accepted(epoch: &str) -> Welcome {
    Welcome { accepted: true, ..hello(epoch) }
}

fn continuing(epoch: &str) -> Welcome {
    Welcome { continues: true, ..hello(epoch) }
}

impl Bed {
    /// A fork: a snapshot of another history, in which the key of `token` is active or not.
    fn fork(&mut self, welcome: Welcome, token: &Token, active: bool) {
        self.begin();
        self.welcome_with(welcome).unwrap();
        let keys = vec![self.entry(token, active)];
        self.receive(self.session, Message::Chunk { keys, complete: Some(position(3)) }).unwrap();
        self.lease();
    }

    fn accept(&mut self, revision: i64) {
        let delta = Message::Delta { position: position(revision), keys: vec![], accepted: true };
        self.receive(self.session, delta).unwrap();
    }
}

#[test]
fn a_token_seen_deactivated_stays_denied_in_other_histories_until_one_is_accepted() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.delta(5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(hello("restored"), &token, true);
    assert_eq!((bed.verdict(&token), bed.writer.withheld()), (Ok(Verdict::Deactivated), 1));
    // It stays denied after a change of the key, a snapshot of the same history, and a further fork.
    bed.delta(4, vec![bed.entry(&token, true)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.snapshot("restored", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.fork(continuing("again"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.accept(4);
    assert_eq!((bed.verdict(&token), bed.writer.withheld()), (Ok(Verdict::Valid), 0));
}

#[test]
fn a_token_that_one_history_lacks_and_the_next_restores_stays_denied() {
    let (mut bed, token, other) = (Bed::new(), token(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(hello("older"), &other, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    bed.fork(hello("younger"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn an_accepted_history_withholds_nothing() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(accepted("restored"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    // A history that is accepted while the validator is not connected.
    bed.snapshot("e", 9, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(hello("third"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.begin();
    bed.welcome_with(Welcome { snapshot: false, ..accepted("third") }).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

#[test]
fn a_history_that_contains_the_served_position_may_activate_keys() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(continuing("minted"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    // `continues` covers only the position of the Hello, not what arrived since.
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.session = old;
    bed.delta(6, vec![bed.entry(&token, false)]).unwrap();
    bed.session = new;
    bed.welcome_with(continuing("third")).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.receive(new, Message::Chunk { keys, complete: Some(position(6)) }).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn an_expiry_of_a_former_history_stays_until_the_epoch_is_accepted() {
    let (mut bed, token) = (Bed::new(), token());
    let mut ends = bed.entry(&token, true);
    ends.expire_time = Some(Timestamp::from_micros(1_000_000));
    bed.snapshot("e", 5, vec![ends]).unwrap();
    bed.fork(hello("restored"), &token, true);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.replica.clock().advance(Duration::from_secs(1));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.accept(4);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

/// A change that another history has at that revision.
fn lost(revision: i64) -> Message<TableWriter> {
    Message::Delta { position: position_with(revision, 0xee), keys: vec![], accepted: false }
}

#[test]
fn changes_of_a_lost_history_are_not_acknowledged_in_another_session() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 10, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.welcome("e", false).unwrap();
    // The old admin has two more changes; then the database loses them, and the new admin continues without.
    for revision in [11, 12] {
        bed.receive(old, lost(revision)).unwrap();
    }
    assert_eq!((bed.writer.revision_of(old), bed.writer.revision_of(new)), (Revision(12), Revision(10)));
    assert_eq!(bed.delta(11, vec![bed.entry(&token, false)]), Err(FollowerError::Forked));
}

#[test]
fn a_session_behind_a_snapshot_gets_no_lease_until_it_has_caught_up() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    bed.welcome("e", true).unwrap();
    let whole = Message::Chunk { keys: vec![bed.entry(&token, true)], complete: Some(position(8)) };
    assert_eq!(bed.receive(bed.session, whole), Ok(Some(Revision(8))));
    bed.session = old;
    let left = bed.writer.lease_left(old);
    bed.replica.clock().advance(Duration::from_millis(100));
    for revision in [6, 7] {
        assert_eq!(bed.delta(revision, vec![]), Ok(None), "the session has not shown that the snapshot contains it");
        assert_eq!(bed.writer.revision_of(old), Revision(0));
    }
    bed.lease();
    assert!(bed.writer.lease_left(old) < left, "no lease for what is not known to be in the table");
    assert_eq!(bed.delta(8, vec![]), Ok(Some(Revision(8))));
    bed.lease();
    assert_eq!(bed.writer.lease_left(old), LEASE);
    assert_eq!(bed.delta(9, vec![bed.entry(&token, false)]), Ok(Some(Revision(9))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn a_session_of_another_history_ends_where_its_position_conflicts() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    let old = bed.session;
    bed.begin_beside();
    bed.welcome("e", true).unwrap();
    let whole = Message::Chunk { keys: vec![], complete: Some(position(7)) };
    bed.receive(bed.session, whole).unwrap();
    assert_eq!(bed.receive(old, lost(6)), Ok(None));
    assert_eq!(bed.receive(old, lost(7)), Err(FollowerError::Forked));
}

#[test]
fn a_token_that_both_histories_refuse_is_activated_by_the_newer_one() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork(hello("restored"), &token, false);
    assert_eq!((bed.verdict(&token), bed.writer.withheld()), (Ok(Verdict::Deactivated), 0));
    bed.delta(4, vec![bed.entry(&token, true)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}
