#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::sync::Mutex;

use keyward_domain::{Expectation, KeyId, KeyName, Platform, ProjectId, TokenEntry, Uid, Verdict};
use keyward_token::{Token, TokenKind};

use super::*;
use crate::clock::Instant;
use crate::replica::NoAnswer;

/// A clock that moves when told to.
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
    follower: Follower<ManualClock>,
    digest_key: DigestKey,
    seq: u64,
    /// The session that messages are of.
    session: HolderSession,
}

const LEASE: Duration = Duration::from_secs(2);

impl Bed {
    fn new() -> Self {
        let replica = Arc::new(Replica::new(ManualClock::default()));
        let follower = Follower::new(Arc::clone(&replica));
        Self { replica, follower, digest_key: DigestKey::new(1, [9; 32]), seq: 0, session: HolderSession(0) }
    }

    /// Begins a session after the one before has broken: what the Hello says.
    fn begin(&mut self) -> (String, Position) {
        self.follower.broke(self.session);
        self.begin_beside()
    }

    /// The same while the one before goes on.
    fn begin_beside(&mut self) -> (String, Position) {
        let (session, epoch, position) = self.follower.begin();
        self.session = session;
        (epoch.to_owned(), position.clone())
    }

    fn welcome(&mut self, epoch: &str, snapshot: bool) -> Result<Option<Reply>, FollowerError> {
        self.welcome_to(epoch, snapshot, HistoryStanding::default())
    }

    fn welcome_to(
        &mut self,
        epoch: &str,
        snapshot: bool,
        standing: HistoryStanding,
    ) -> Result<Option<Reply>, FollowerError> {
        self.follower.handle(
            self.session,
            Message::Welcome {
                epoch: epoch.to_owned(),
                digest_keys: vec![self.digest_key.clone()],
                format: TokenFormat::default(),
                snapshot,
                standing,
            },
        )
    }

    /// A whole session's beginning: a snapshot of `keys` at `revision`.
    fn snapshot(&mut self, epoch: &str, revision: i64, keys: Vec<KeyEntry>) -> Result<Option<Reply>, FollowerError> {
        self.begin();
        self.welcome(epoch, true)?;
        self.follower.handle(self.session, Message::Chunk { keys, complete: Some(position(revision)) })
    }

    fn delta(&mut self, revision: i64, keys: Vec<KeyEntry>) -> Result<Option<Reply>, FollowerError> {
        self.follower.handle(self.session, Message::Delta { position: position(revision), keys, accepted: false })
    }

    fn renew(&mut self) -> u64 {
        self.seq += 1;
        self.follower.renewing(self.session, self.seq);
        self.seq
    }

    fn grant(&mut self, seq: u64, wall_micros: i64) {
        let wall_time = Timestamp::from_micros(wall_micros);
        self.follower.handle(self.session, Message::Grant { seq, duration: LEASE, wall_time }).unwrap();
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

fn position(revision: i64) -> Position {
    Position { revision: Revision(revision), chain: vec![0; 32] }
}

fn token() -> Token {
    Token::generate(&TokenFormat::default(), TokenKind::Server).unwrap()
}

#[test]
fn a_change_is_visible_before_it_is_acknowledged() {
    let (mut bed, token) = (Bed::new(), token());
    assert_eq!(bed.snapshot("e", 1, vec![]), Ok(Some(Reply::Ack(Revision(1)))));
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    assert_eq!(bed.delta(2, vec![bed.entry(&token, true)]), Ok(Some(Reply::Ack(Revision(2)))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    assert_eq!(bed.delta(3, vec![bed.entry(&token, false)]), Ok(Some(Reply::Ack(Revision(3)))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn a_token_that_a_key_lost_is_unknown() {
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
    // The older renewal is settled by the newer grant.
    bed.grant(first, 0);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_broken_session_leaves_its_lease_and_the_next_one_goes_on_from_there() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    assert_eq!(bed.begin(), ("e".to_owned(), position(4)));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.welcome("e", false).unwrap();
    bed.delta(5, vec![bed.entry(&token, false)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.replica.clock().advance(LEASE);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
}

#[test]
fn a_lease_does_not_outlive_the_goodbye_to_its_session() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.follower.leave(bed.session);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    // With a second session's lease in hand, the first one's end is not felt.
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.begin();
    bed.welcome("e", false).unwrap();
    bed.follower.leave(bed.session);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
}

#[test]
fn a_lease_of_another_history_is_none() {
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
    assert_eq!(bed.begin(), ("e".to_owned(), position(1)));
    assert!(bed.follower.wants_snapshot());
    // Whoever is asked then, what was served is not taken back.
    bed.welcome("e", true).unwrap();
    let older = Message::Chunk { keys: vec![], complete: Some(position(0)) };
    assert_eq!(bed.follower.handle(bed.session, older), Err(FollowerError::WentBack));
    bed.snapshot("e", 3, vec![]).unwrap();
    assert!(!bed.follower.wants_snapshot());
}

#[test]
fn within_an_epoch_a_replica_never_goes_back() {
    let mut bed = Bed::new();
    bed.snapshot("e", 5, vec![]).unwrap();
    assert_eq!(bed.snapshot("e", 4, vec![]), Err(FollowerError::WentBack));
    assert_eq!(bed.replica.revision(), Revision(5));
    assert_eq!(bed.snapshot("other", 1, vec![]), Ok(Some(Reply::Ack(Revision(1)))));
}

#[test]
fn a_snapshot_is_invisible_until_it_is_whole() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![]).unwrap();
    bed.lease();
    bed.begin();
    bed.welcome("e", true).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.follower.handle(bed.session, Message::Chunk { keys, complete: None }).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    assert!(!bed.follower.is_complete(bed.session));
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
fn a_validator_that_moves_takes_each_change_once_whoever_says_it_first() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 1, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.welcome("e", false).unwrap();
    // The old admin is quicker with one change, the new one with the next.
    bed.session = old;
    assert_eq!(bed.delta(2, vec![bed.entry(&token, false)]), Ok(Some(Reply::Ack(Revision(2)))));
    bed.session = new;
    assert_eq!(bed.delta(2, vec![bed.entry(&token, false)]), Ok(Some(Reply::Ack(Revision(2)))));
    assert_eq!(bed.delta(3, vec![bed.entry(&token, true)]), Ok(Some(Reply::Ack(Revision(3)))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.session = old;
    assert_eq!(bed.delta(3, vec![bed.entry(&token, true)]), Ok(Some(Reply::Ack(Revision(3)))));
    assert_eq!(bed.delta(5, vec![]), Err(FollowerError::Gap), "each stream is whole in itself");
    // The old session's lease holds until the new one's does.
    bed.follower.leave(old);
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.session = new;
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    assert_eq!(bed.follower.lease_left(new), LEASE);
    bed.session = old;
    assert_eq!(bed.delta(4, vec![]), Err(FollowerError::OutOfOrder), "that session is over");
}

#[test]
fn a_snapshot_that_another_session_has_overtaken_is_shown_once_its_deltas_have_caught_up() {
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
    assert_eq!(bed.follower.handle(new, part), Ok(None));
    assert!(!bed.follower.is_complete(new));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid), "what is served does not go back");
    assert_eq!(bed.delta(6, vec![bed.entry(&token, true)]), Ok(Some(Reply::Ack(Revision(6)))));
    assert!(bed.follower.is_complete(new));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

#[test]
fn another_history_is_not_taken_while_somebody_speaks_for_the_one_that_is_served() {
    let mut bed = Bed::new();
    bed.snapshot("e", 5, vec![]).unwrap();
    bed.lease();
    bed.begin_beside();
    assert_eq!(bed.welcome("other", true), Err(FollowerError::Forked));
    bed.begin_beside();
    bed.welcome("e", false).unwrap();
    let at = Position { chain: vec![1; 32], ..position(6) };
    let delta = Message::Delta { position: at, keys: vec![], accepted: false };
    bed.follower.handle(bed.session, delta).unwrap();
    bed.begin();
    bed.welcome("e", true).unwrap();
    bed.follower.handle(bed.session, Message::Chunk { keys: vec![], complete: Some(position(5)) }).unwrap();
    assert_eq!(bed.delta(6, vec![]), Err(FollowerError::Forked), "the same revision says something else");
}

/// Whoever rotates a token without a grace writes an instant behind every clock.
#[test]
fn a_token_that_was_ended_at_once_stays_dead_whatever_the_clock_says() {
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

/// One that gives no lease for it any more does not speak for it: it may be cut off for good.
#[test]
fn a_history_for_which_nobody_gives_leases_makes_way_for_another() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.replica.clock().advance(LEASE);
    bed.begin_beside();
    bed.welcome("other", true).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.follower.handle(bed.session, Message::Chunk { keys, complete: Some(position(3)) }).unwrap();
    assert_eq!(bed.verdict(&token), Err(NoAnswer::NoLease));
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.session = old;
    assert_eq!(bed.delta(6, vec![]), Err(FollowerError::OutOfOrder), "that history is over");
}

const ACCEPTED: HistoryStanding = HistoryStanding { accepted: true, continues: false };
const CONTINUES: HistoryStanding = HistoryStanding { accepted: false, continues: true };

impl Bed {
    /// A fork: a snapshot of another history, in which the token's key is as `active` says.
    fn fork(&mut self, epoch: &str, token: &Token, active: bool, standing: HistoryStanding) {
        self.begin();
        self.welcome_to(epoch, true, standing).unwrap();
        let keys = vec![self.entry(token, active)];
        self.follower.handle(self.session, Message::Chunk { keys, complete: Some(position(3)) }).unwrap();
        self.lease();
    }

    fn accept(&mut self, revision: i64) {
        let delta = Message::Delta { position: position(revision), keys: vec![], accepted: true };
        self.follower.handle(self.session, delta).unwrap();
    }
}

#[test]
fn what_was_seen_deactivated_stays_denied_in_other_histories_until_one_is_accepted() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.delta(5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("restored", &token, true, HistoryStanding::default());
    assert_eq!((bed.verdict(&token), bed.follower.withheld()), (Ok(Verdict::Deactivated), 1));
    // Nor does it come back with a change of the key, with a snapshot of the same history, or with the next one.
    bed.delta(4, vec![bed.entry(&token, true)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.snapshot("restored", 4, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.fork("again", &token, true, CONTINUES);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.accept(4);
    assert_eq!((bed.verdict(&token), bed.follower.withheld()), (Ok(Verdict::Valid), 0));
}

#[test]
fn a_token_that_was_forgotten_and_comes_back_stays_denied() {
    let (mut bed, token, other) = (Bed::new(), token(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("older", &other, true, HistoryStanding::default());
    assert_eq!(bed.verdict(&token), Ok(Verdict::Unknown));
    bed.fork("younger", &token, true, HistoryStanding::default());
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn an_accepted_history_is_taken_at_its_word() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("restored", &token, true, ACCEPTED);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    // One that was accepted while nobody told this validator.
    bed.snapshot("e", 9, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("third", &token, true, HistoryStanding::default());
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.begin();
    bed.welcome_to("third", false, ACCEPTED).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

#[test]
fn a_history_that_goes_on_from_what_was_served_may_activate_keys() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("minted", &token, true, CONTINUES);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    // What came after the Hello is not what the admin spoke of.
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.session = old;
    bed.delta(6, vec![bed.entry(&token, false)]).unwrap();
    bed.session = new;
    bed.welcome_to("third", true, CONTINUES).unwrap();
    let keys = vec![bed.entry(&token, true)];
    bed.follower.handle(new, Message::Chunk { keys, complete: Some(position(6)) }).unwrap();
    bed.lease();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn an_end_that_was_set_in_a_former_history_stays_and_is_lifted_by_acceptance() {
    let (mut bed, token) = (Bed::new(), token());
    let mut ends = bed.entry(&token, true);
    ends.expire_time = Some(Timestamp::from_micros(1_000_000));
    bed.snapshot("e", 5, vec![ends]).unwrap();
    bed.fork("restored", &token, true, HistoryStanding::default());
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
    bed.replica.clock().advance(Duration::from_secs(1));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
    bed.accept(4);
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}

/// A change that another history has at that revision.
fn lost(revision: i64, keys: Vec<KeyEntry>) -> Message {
    Message::Delta { position: Position { revision: Revision(revision), chain: vec![0xee] }, keys, accepted: false }
}

#[test]
fn what_one_session_says_of_a_lost_history_is_no_ack_in_another() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 10, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    let new = bed.session;
    bed.welcome("e", false).unwrap();
    // The old admin knows more; then the database loses it, and the new admin goes on without.
    for revision in [11, 12] {
        bed.follower.handle(old, lost(revision, vec![])).unwrap();
    }
    assert_eq!((bed.follower.revision_of(old), bed.follower.revision_of(new)), (Revision(12), Revision(10)));
    assert_eq!(bed.delta(11, vec![bed.entry(&token, false)]), Err(FollowerError::Forked));
}

#[test]
fn a_session_that_a_snapshot_has_overtaken_counts_again_once_it_has_caught_up() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    bed.lease();
    let old = bed.session;
    bed.begin_beside();
    bed.welcome("e", true).unwrap();
    let whole = Message::Chunk { keys: vec![bed.entry(&token, true)], complete: Some(position(8)) };
    assert_eq!(bed.follower.handle(bed.session, whole), Ok(Some(Reply::Ack(Revision(8)))));
    bed.session = old;
    let left = bed.follower.lease_left(old);
    bed.replica.clock().advance(Duration::from_millis(100));
    for revision in [6, 7] {
        assert_eq!(bed.delta(revision, vec![]), Ok(None), "whether that is in the snapshot nobody has said");
        assert_eq!(bed.follower.revision_of(old), Revision(0));
    }
    bed.lease();
    assert!(bed.follower.lease_left(old) < left, "no lease for what is not known to be in the table");
    assert_eq!(bed.delta(8, vec![]), Ok(Some(Reply::Ack(Revision(8)))));
    bed.lease();
    assert_eq!(bed.follower.lease_left(old), LEASE);
    assert_eq!(bed.delta(9, vec![bed.entry(&token, false)]), Ok(Some(Reply::Ack(Revision(9)))));
    assert_eq!(bed.verdict(&token), Ok(Verdict::Deactivated));
}

#[test]
fn a_session_of_another_history_than_a_snapshots_is_found_out_where_they_meet() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, true)]).unwrap();
    let old = bed.session;
    bed.begin_beside();
    bed.welcome("e", true).unwrap();
    let whole = Message::Chunk { keys: vec![], complete: Some(position(7)) };
    bed.follower.handle(bed.session, whole).unwrap();
    assert_eq!(bed.follower.handle(old, lost(6, vec![])), Ok(None));
    assert_eq!(bed.follower.handle(old, lost(7, vec![])), Err(FollowerError::Forked));
}

#[test]
fn what_both_histories_refuse_is_the_newer_ones_to_give_back() {
    let (mut bed, token) = (Bed::new(), token());
    bed.snapshot("e", 5, vec![bed.entry(&token, false)]).unwrap();
    bed.fork("restored", &token, false, HistoryStanding::default());
    assert_eq!((bed.verdict(&token), bed.follower.withheld()), (Ok(Verdict::Deactivated), 0));
    bed.delta(4, vec![bed.entry(&token, true)]).unwrap();
    assert_eq!(bed.verdict(&token), Ok(Verdict::Valid));
}
