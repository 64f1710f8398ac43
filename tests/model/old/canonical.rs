//! What the search leaves out of its states cannot matter: a machine that is brought into its canonical form after every
//! step goes on to do the same as one that never is.

use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Revision};
use keyward_replica::{Holder, HolderSession, Instant, Listing, Policy, SessionId, Sessions, Settled, Watch};

use crate::search::ONE;
use crate::state::{at, ticks};

const WALKS: u64 = 3_000;
const STEPS: usize = 40;

/// No delta is appended after this one.
const LAST: Revision = Revision(4);

/// Marsaglia's xorshift64: the same walks every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(usize::try_from(self.below(from.len().max(1) as u64)).ok()?).copied()
    }
}

/// A record as servers keep it, and the same in canonical form.
struct Records {
    plain: Sessions,
    now: Instant,
    canonical: Sessions,
    /// Sessions that have a stream, by their numbers in `plain`; in `canonical` they go by their places here.
    connected: Vec<SessionId>,
    joined: u64,
    newest: Revision,
}

impl Records {
    fn step(&mut self, dice: &mut Dice) {
        let mut passed = Duration::ZERO;
        let place = dice.below(self.connected.len().max(1) as u64);
        let named = self.connected.get(place as usize).copied().map(|plain| (plain, SessionId(place)));
        match (dice.below(9), named) {
            (0 | 1, _) => passed = ticks(1),
            (2, _) if self.newest < LAST => {
                self.newest = self.newest.next();
                self.plain.appended(self.newest);
                self.canonical.appended(self.newest);
            }
            (3, _) if self.connected.len() < 3 => {
                let (plain, canonical) = (SessionId(self.joined), SessionId(self.connected.len() as u64));
                self.joined += 1;
                self.plain.join(plain);
                self.canonical.join(canonical);
                self.connected.push(plain);
            }
            (4, Some((plain, canonical))) => {
                self.plain.broke(plain);
                self.canonical.broke(canonical);
                self.end(place);
                return;
            }
            (5, Some((plain, canonical))) if dice.below(4) == 0 => {
                self.plain.goodbye(plain);
                self.canonical.goodbye(canonical);
                self.end(place);
                return;
            }
            (6, Some((plain, canonical))) => {
                let revision = Revision(i64::try_from(dice.below(5)).unwrap()).min(self.newest);
                self.plain.ack(plain, revision);
                self.canonical.ack(canonical, revision);
            }
            (_, Some((plain, canonical))) => {
                let granted = self.plain.grant(plain, self.now, self.now);
                assert_eq!(granted, self.canonical.grant(canonical, at(0), at(0)));
            }
            _ => {}
        }
        self.now = self.now.plus(passed);
        if self.newest == LAST {
            self.canonical = self.canonical.after_the_last_delta();
        }
        self.canonical = self.canonical.canonical(Instant::default().plus(passed), |id| id);
    }

    /// Strikes off a session that has no stream any more; those behind it move up.
    fn end(&mut self, place: u64) {
        self.connected.remove(place as usize);
        let moved_up = |id: SessionId| if id.0 > place { SessionId(id.0 - 1) } else { id };
        self.canonical = self.canonical.canonical(at(0), moved_up);
    }

    fn assert_alike(&self) {
        for revision in (1..=self.newest.0).map(Revision) {
            for ahead in 0..6 {
                let plain = self.plain.enforcement(revision, self.now.plus(ticks(ahead))).missing == 0;
                let canonical = self.canonical.enforcement(revision, at(ahead)).missing == 0;
                assert_eq!(plain, canonical, "{revision} in {ahead}: {:#?}\n{:#?}", self.plain, self.canonical);
            }
        }
    }
}

#[test]
fn a_record_in_canonical_form_calls_the_same_revisions_enforced() {
    let policy = crate::world::World { lease: 2, ..ONE }.policy();
    for seed in 1..=WALKS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let now = at(1_000);
        let former = (dice.below(2) == 0).then_some(policy);
        let mut records = Records {
            plain: Sessions::new(policy, former, now),
            now,
            canonical: Sessions::new(policy, former, at(0)),
            connected: Vec::new(),
            joined: 0,
            newest: Revision(0),
        };
        for _ in 0..STEPS {
            records.step(&mut dice);
            records.assert_alike();
        }
    }
}

/// A holder as validators keep it, and the same in canonical form.
struct Holders {
    plain: Holder,
    now: Instant,
    canonical: Holder,
    /// Sessions that have a stream, by their numbers in `plain`; in `canonical` they are numbered from 1, in this order.
    open: Vec<HolderSession>,
    /// Renewals under way, by their numbers in `plain`; in `canonical` they go by their places here.
    asked: Vec<Vec<u64>>,
    next: u64,
}

impl Holders {
    fn step(&mut self, dice: &mut Dice, longest: Duration) {
        let mut passed = Duration::ZERO;
        let place = dice.below(self.open.len().max(1) as u64) as usize;
        let named = self.open.get(place).map(|plain| (*plain, HolderSession(place as u64 + 1)));
        // In canonical form, before anything was renumbered.
        let mut open: Vec<_> = (1..=self.open.len() as u64).map(HolderSession).collect();
        match (dice.below(9), named) {
            (0 | 1, _) => passed = ticks(1),
            (2, _) if self.open.len() < 2 => {
                self.open.push(self.plain.begin(self.now));
                open.push(self.canonical.begin(at(0)));
                self.asked.push(Vec::new());
            }
            (3, Some((plain, canonical))) if dice.below(3) == 0 => {
                if dice.below(2) == 0 {
                    self.plain.leave(plain);
                    self.canonical.leave(canonical);
                } else {
                    self.plain.broke(plain);
                    self.canonical.broke(canonical);
                }
                self.open.remove(place);
                self.asked.remove(place);
                open.remove(place);
            }
            (4..=6, Some((plain, canonical))) => {
                self.plain.renewing(plain, self.next, self.now);
                self.canonical.renewing(canonical, self.asked[place].len() as u64, at(0));
                self.asked[place].push(self.next);
                self.next += 1;
            }
            (_, Some((plain, canonical))) => {
                if let Some(seq) = dice.pick(&self.asked[place]) {
                    let known_as = self.asked[place].binary_search(&seq).unwrap() as u64;
                    let duration = ticks(1 + dice.below(3));
                    self.plain.granted(plain, seq, duration);
                    self.canonical.granted(canonical, known_as, duration);
                    self.asked[place].retain(|other| *other > seq);
                }
            }
            _ => {}
        }
        self.now = self.now.plus(passed);
        self.canonical = self.canonical.canonical(Instant::default().plus(passed), longest, &open).0;
    }
}

#[test]
fn a_holder_in_canonical_form_answers_until_the_same_instant() {
    for seed in 1..=WALKS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (plain, now, canonical) = (Holder::default(), at(1_000), Holder::default());
        let mut holders = Holders { plain, now, canonical, open: Vec::new(), asked: Vec::new(), next: 0 };
        for _ in 0..STEPS {
            holders.step(&mut dice, ticks(3));
            let Holders { plain, canonical, now, .. } = &holders;
            assert_eq!(plain.until().since(*now), canonical.until().since(at(0)), "{plain:?} {canonical:?}");
        }
    }
}

/// How late a listing arrives at most.
const LATEST: Duration = ticks(2);

/// What an admin that shares its database knows of others, as servers keep it, and the same in canonical form.
struct Known {
    policy: Policy,
    watch: [Watch; 2],
    settled: [Settled; 2],
    now: Instant,
    newest: Revision,
    /// Others' heartbeats, and as many of them as were seen by the last listing.
    beats: [(i64, i64); 3],
}

impl Known {
    fn step(&mut self, dice: &mut Dice) {
        let mut passed = Duration::ZERO;
        match dice.below(6) {
            0 | 1 => passed = ticks(1),
            2 => self.beats[dice.below(3) as usize].0 += 1,
            3 => {
                self.newest = self.newest.next();
                self.settled[0].applied(self.newest, self.now);
                self.settled[1].applied(self.newest, at(0));
            }
            _ => self.list(dice),
        }
        self.now = self.now.plus(passed);
        let long_ago = before(at(0), self.policy.wait_out() + ticks(1) + LATEST);
        self.watch[1] = self.watch[1].canonical(at(0).plus(passed), long_ago);
        self.settled[1] = self.settled[1].canonical(at(0).plus(passed), long_ago);
    }

    fn list(&mut self, dice: &mut Dice) {
        let (late, listed) = (ticks(dice.below(LATEST.as_secs() + 1)), dice.below(8));
        let (mut plain, mut canonical) = (Vec::new(), Vec::new());
        for (n, (beat, seen)) in (0_u8..).zip(&mut self.beats).filter(|(n, _)| listed & (1 << n) != 0) {
            let node = |heartbeat| AdminNode {
                life: AdminLife::from_bytes([n; 16]),
                lease: self.policy.lease,
                heartbeat,
                address: None,
            };
            plain.push(node(*beat));
            canonical.push(node(*beat - std::mem::replace(seen, *beat)));
        }
        let plain = Listing { asked: before(self.now, late), nodes: plain };
        let canonical = Listing { asked: before(at(0), late), nodes: canonical };
        let silent = |silent: Vec<AdminNode>| silent.into_iter().map(|node| node.life).collect::<Vec<_>>();
        let said = silent(self.watch[0].silent(&plain, &self.policy, self.now));
        assert_eq!(said, silent(self.watch[1].silent(&canonical, &self.policy, at(0))));
        self.settled[0].listed(&plain, &self.policy, self.now);
        self.settled[1].listed(&canonical, &self.policy, at(0));
    }
}

fn before(instant: Instant, duration: Duration) -> Instant {
    Instant::from_nanos(instant.as_nanos() - i64::try_from(duration.as_nanos()).unwrap())
}

#[test]
fn what_is_known_of_others_in_canonical_form_strikes_off_and_settles_the_same() {
    for seed in 1..=WALKS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (watch, settled) = (Default::default(), Default::default());
        let mut known =
            Known { policy: ONE.policy(), watch, settled, now: at(1_000), newest: Revision(0), beats: [(0, 0); 3] };
        for _ in 0..STEPS {
            known.step(&mut dice);
            let [plain, canonical] = &known.settled;
            for revision in (1..=known.newest.0).map(Revision) {
                assert_eq!(plain.look(revision), canonical.look(revision), "{revision}: {plain:?} {canonical:?}");
            }
        }
    }
}
