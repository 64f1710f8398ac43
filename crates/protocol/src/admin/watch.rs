use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode};

use crate::admin::barrier::Listing;
use crate::policy::Policy;
use crate::time::Instant;

/// Observes the heartbeats of the other admins, by this admin's own clock: the database's clock may jump. Detects admins
/// without heartbeats, and admins whose heartbeats go to another database server.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Watch {
    seen: BTreeMap<AdminLife, Seen>,
}

/// What is known about the heartbeats of one life.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Seen {
    /// The newest heartbeat in the database.
    heartbeat: i64,
    /// When this admin first saw it.
    at: Instant,
    /// A newer heartbeat that the admin in that life has answered with.
    newer: Option<PeerHeartbeat>,
    /// `true` if the life's heartbeats reach a database, and not this one, or did so for as long as a lease ago.
    is_elsewhere: bool,
    /// When the life's heartbeats reached this database again after they had reached another one.
    returned: Option<Instant>,
    /// `true` if the admin in that life, asked after every lease of this heartbeat had expired, had no newer one, or did not
    /// answer.
    is_confirmed: bool,
}

/// A heartbeat that a peer's database has answered, and that was sent after this admin saw the newest one in its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct PeerHeartbeat {
    /// When this admin learned of it, by its own clock.
    arrived: Instant,
}

impl Seen {
    const fn new(heartbeat: i64, at: Instant) -> Self {
        Self { heartbeat, at, newer: None, is_elsewhere: false, returned: None, is_confirmed: false }
    }
}

/// What follows from a listing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Silent {
    /// Lives whose rows may be deleted if their heartbeat counters are still the same: every lease that is chained to their
    /// heartbeats has expired, and the admins in those lives were asked for newer heartbeats and had none.
    pub evict: Vec<AdminNode>,
    /// Lives without a new heartbeat for at least one interval. The admins in those lives should be asked for their newest
    /// heartbeats: a heartbeat that was answered, and that this database lacks, went to another server.
    pub ask: Vec<AdminNode>,
}

impl Watch {
    /// Takes a listing that arrived at `now`.
    pub fn listed(&mut self, listing: &Listing, policy: &Policy, now: Instant) -> Silent {
        let listed = |life: &AdminLife| listing.nodes.iter().any(|node| node.life == *life);
        self.seen.retain(|life, _| listed(life));
        let mut silent = Silent::default();
        for node in &listing.nodes {
            let fresh = Seen::new(node.heartbeat, now);
            let seen = self.seen.entry(node.life).or_insert(fresh);
            if seen.heartbeat != node.heartbeat {
                let returned = if seen.newer.is_some() && seen.is_elsewhere { Some(now) } else { seen.returned };
                *seen = Seen { returned, ..fresh };
            }
            let held = policy.held(node.lease);
            // Leases that are chained to a heartbeat at another server may be in use as well.
            seen.newer = seen.newer.filter(|newer| listing.asked < newer.arrived.plus(held));
            seen.returned = seen.returned.filter(|returned| listing.asked < returned.plus(held));
            // The same database would have shown the newer heartbeat.
            let is_missing = seen.newer.is_some_and(|newer| newer.arrived <= listing.asked);
            seen.is_elsewhere = is_missing || seen.returned.is_some();
            if seen.at.plus(held) <= listing.asked && seen.newer.is_none() && seen.is_confirmed {
                silent.evict.push(node.clone());
            }
            if seen.at.plus(policy.renew_interval()) <= listing.asked {
                silent.ask.push(node.clone());
            }
        }
        silent
    }

    /// Takes the answer of the admin in `life`, which was asked at `asked` and answered at `now`: its database has answered a
    /// heartbeat that it sent at `sent` or later. `sent` is `None` if the database has answered none, or the admin did not
    /// answer. `held`: how long the leases of that life may be in use.
    pub fn peer_heartbeat(
        &mut self,
        life: AdminLife,
        asked: Instant,
        sent: Option<Instant>,
        held: Duration,
        now: Instant,
    ) {
        let Some(seen) = self.seen.get_mut(&life) else { return };
        // A heartbeat that was sent before this admin saw the newest one may be the newest one.
        if sent.is_some_and(|sent| sent > seen.at) {
            (seen.newer, seen.is_confirmed) = (Some(PeerHeartbeat { arrived: now }), false);
        } else {
            seen.is_confirmed |= seen.at.plus(held) <= asked;
        }
    }

    /// The lives whose heartbeats reach another database server, or whose leases from there may be in use: two servers take or
    /// took writes.
    pub fn elsewhere(&self) -> impl Iterator<Item = AdminLife> {
        self.seen.iter().filter(|(_, seen)| seen.is_elsewhere).map(|(life, _)| *life)
    }

    /// The newest heartbeat of `life` that was seen; `None` if it is not in the newest listing.
    pub fn newest(&self, life: AdminLife) -> Option<i64> {
        self.seen.get(&life).map(|seen| seen.heartbeat)
    }

    /// This record on a clock whose zero is `now`, for a search through all states. A heartbeat seen before `useless` is old
    /// enough for an eviction. `rename` numbers the heartbeats of a life.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant, rename: impl Fn(AdminLife, i64) -> i64) -> Self {
        let shifted = |at: Instant| at.relative_to(now).max(useless);
        let canonical = |(life, seen): (&AdminLife, &Seen)| {
            let newer = seen.newer.map(|newer| PeerHeartbeat { arrived: shifted(newer.arrived) });
            let (heartbeat, returned) = (rename(*life, seen.heartbeat), seen.returned.map(shifted));
            (*life, Seen { heartbeat, at: shifted(seen.at), newer, returned, ..*seen })
        };
        Self { seen: self.seen.iter().map(canonical).collect() }
    }

    /// This record without one life, which is never evicted.
    #[must_use]
    pub fn without(mut self, life: AdminLife) -> Self {
        self.seen.remove(&life);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Policy =
        Policy { lease: Duration::from_secs(2), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };

    const LIFE: AdminLife = AdminLife::from_bytes([1; 16]);
    /// 10 s and the margin.
    const HELD: Duration = Duration::from_secs(11);

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(asked: i64, heartbeat: i64) -> Listing {
        let lease = Duration::from_secs(10);
        let node = AdminNode { life: LIFE, lease, heartbeat, address: None };
        Listing { asked: at(asked), nodes: vec![node] }
    }

    /// The peer does not answer a question.
    fn unanswered(watch: &mut Watch, asked: i64) {
        watch.peer_heartbeat(LIFE, at(asked), None, HELD, at(asked));
    }

    #[test]
    fn a_life_may_be_evicted_once_its_longest_lease_has_expired_without_a_heartbeat() {
        let mut watch = Watch::default();
        let mut silent = |asked, heartbeat, now| {
            unanswered(&mut watch, asked);
            watch.listed(&listing(asked, heartbeat), &EXACT, at(now)).evict.len()
        };
        assert_eq!(silent(0, 5, 1), 0);
        assert_eq!(silent(9, 6, 10), 0, "it sent a heartbeat");
        assert_eq!(silent(20, 6, 22), 0, "10 s and the margin count from when it was seen to when it was asked again");
        assert_eq!(silent(21, 6, 21), 1);
        assert_eq!(silent(22, 7, 22), 0, "it sent a heartbeat again");
    }

    #[test]
    fn a_life_is_evicted_only_after_it_was_asked_for_a_newer_heartbeat() {
        let mut watch = Watch::default();
        watch.listed(&listing(0, 5), &EXACT, at(0));
        unanswered(&mut watch, 10);
        let silent = watch.listed(&listing(30, 5), &EXACT, at(30));
        assert_eq!((silent.evict.len(), silent.ask.len()), (0, 1), "it was asked before its leases had expired");
        unanswered(&mut watch, 30);
        assert_eq!(watch.listed(&listing(31, 5), &EXACT, at(31)).evict.len(), 1);
    }

    fn is_elsewhere(watch: &Watch) -> bool {
        watch.elsewhere().next().is_some()
    }

    #[test]
    fn a_heartbeat_that_another_server_answered_shows_that_two_servers_take_writes() {
        let mut watch = Watch::default();
        watch.listed(&listing(0, 5), &EXACT, at(0));
        assert_eq!(watch.listed(&listing(1, 5), &EXACT, at(1)).ask.len(), 1, "one interval without a heartbeat");
        watch.peer_heartbeat(LIFE, at(2), Some(at(1)), HELD, at(2));
        watch.listed(&listing(1, 5), &EXACT, at(2));
        assert!(!is_elsewhere(&watch), "the listing was asked for before the peer's answer arrived");
        watch.listed(&listing(2, 5), &EXACT, at(3));
        assert!(is_elsewhere(&watch));
        // It is not evicted while it answers, and for as long as its leases may last after that.
        watch.peer_heartbeat(LIFE, at(30), Some(at(29)), HELD, at(30));
        unanswered(&mut watch, 39);
        assert_eq!(watch.listed(&listing(40, 5), &EXACT, at(40)).evict, []);
        assert!(is_elsewhere(&watch));
        assert_eq!(watch.listed(&listing(41, 5), &EXACT, at(41)).evict.len(), 1);
        assert!(!is_elsewhere(&watch));
    }

    #[test]
    fn a_life_that_returns_from_another_server_counts_as_elsewhere_until_its_leases_from_there_have_expired() {
        let mut watch = Watch::default();
        watch.listed(&listing(0, 5), &EXACT, at(0));
        watch.peer_heartbeat(LIFE, at(2), Some(at(1)), HELD, at(2));
        watch.listed(&listing(3, 5), &EXACT, at(3));
        assert!(is_elsewhere(&watch));
        for (now, heartbeat) in [(4, 6), (9, 11), (14, 16)] {
            watch.listed(&listing(now, heartbeat), &EXACT, at(now));
            assert!(is_elsewhere(&watch), "at {now}");
        }
        watch.listed(&listing(15, 17), &EXACT, at(15));
        assert!(!is_elsewhere(&watch));
    }

    #[test]
    fn a_peer_that_is_only_slow_is_not_elsewhere() {
        let mut watch = Watch::default();
        watch.listed(&listing(0, 5), &EXACT, at(1));
        // The newest heartbeat that the peer's database answered may be the one that this admin has seen.
        watch.peer_heartbeat(LIFE, at(3), Some(at(1)), HELD, at(3));
        watch.listed(&listing(4, 5), &EXACT, at(4));
        assert!(!is_elsewhere(&watch));
        // A later one is in this database too.
        watch.peer_heartbeat(LIFE, at(6), Some(at(5)), HELD, at(6));
        watch.listed(&listing(7, 6), &EXACT, at(7));
        assert!(!is_elsewhere(&watch));
        watch.listed(&listing(8, 6), &EXACT, at(8));
        assert!(!is_elsewhere(&watch), "the answer was about an older heartbeat");
    }
}
