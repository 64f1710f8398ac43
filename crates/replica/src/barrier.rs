use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Revision};

use crate::clock::Instant;
use crate::policy::Policy;

/// The admins that share a database, this one included.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// This admin's clock before it asked.
    pub asked: Instant,
    /// One for each life that may have leases in use.
    pub nodes: Vec<AdminNode>,
}

impl Listing {
    /// D' by the longest of the leases that are listed, or that this admin grants.
    pub fn longest_wait(&self, policy: &Policy) -> Duration {
        self.nodes.iter().map(|node| policy.held(node.lease)).fold(policy.wait_out(), Duration::max)
    }
}

/// What is waited for after a change, beyond the validators of one's own: the leases that other admins gave.
///
/// A lease that could be used from before the change was given by a life that is listed after the commit, unless its row
/// was deleted because its leases had run out. And it ends D' after the commit at the latest, whoever gave it: it is
/// chained to a [`crate::Basis`] from before the commit.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Barrier {
    /// On this admin's clock, after the commit was known.
    committed: Instant,
    /// Other lives that may have leases in use, once known.
    others: Option<Others>,
    /// What other lives said of their own validators.
    cleared: BTreeMap<AdminLife, Cleared>,
}

/// How an admin found that none of its validators answers from before a change any more, nor ever will.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Cleared {
    /// Sessions that acknowledged the change.
    pub acked: usize,
    /// Sessions whose leases ran out instead.
    pub lapsed: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Others {
    waited_for: BTreeSet<AdminLife>,
    /// D' by the longest of all leases.
    wait_out: Duration,
}

/// How a revision stands with the other admins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nothing was listed since the commit.
    Unknown,
    /// So many other lives may have leases from before in use, until then.
    Blocked(usize, Instant),
    /// No other life has leases from before in use: there is none, or each has said so.
    Clear,
    /// Every lease from before has run out, of this admin too.
    WaitedOut,
}

impl Barrier {
    /// For a change that was known to be committed at `committed`.
    pub const fn new(committed: Instant) -> Self {
        Self { committed, others: None, cleared: BTreeMap::new() }
    }

    /// Takes a listing by `own`, the life that waits; one that was asked for before the commit says nothing.
    pub fn listed(&mut self, own: AdminLife, listing: &Listing, policy: &Policy) {
        if listing.asked < self.committed {
            return;
        }
        let nodes = || listing.nodes.iter().filter(|node| node.life != own);
        let others = self.others.get_or_insert_with(|| Others {
            waited_for: nodes().map(|node| node.life).collect(),
            wait_out: listing.longest_wait(policy),
        });
        // Those that began later read the log after the commit.
        others.waited_for.retain(|uid| nodes().any(|node| node.life == *uid));
    }

    /// Takes what a life said of its own validators. It may be asked before it was listed; it says so for good, because what
    /// it feeds a validator before the next grant has the change in it.
    pub fn cleared(&mut self, life: AdminLife, cleared: Cleared) {
        self.cleared.insert(life, cleared);
    }

    /// What those that were asked said, summed up.
    pub fn sum(&self) -> Cleared {
        self.cleared.values().fold(Cleared::default(), |sum, each| Cleared {
            acked: sum.acked + each.acked,
            lapsed: sum.lapsed + each.lapsed,
        })
    }

    /// Where the wait stands at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        let Some(others) = &self.others else { return Standing::Unknown };
        let until = self.committed.plus(others.wait_out);
        match others.waited_for.iter().filter(|life| !self.cleared.contains_key(life)).count() {
            _ if until <= now => Standing::WaitedOut,
            0 => Standing::Clear,
            count => Standing::Blocked(count, until),
        }
    }

    /// This wait as it would look if `now` were instant 0, for a search through all states (`tests/model`).
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let committed = Instant::from_nanos(self.committed.as_nanos().saturating_sub(now.as_nanos())).max(useless);
        Self { committed, others: self.others.clone(), cleared: self.cleared.clone() }
    }
}

/// Which revisions are known to be enforced everywhere, at an admin that shares its database. Within one history what is
/// enforced stays so, and so is everything before it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Settled {
    by_acks: Revision,
    by_wait: Revision,
    /// Revisions that this admin has applied, and when: each was committed before.
    applied: VecDeque<(Revision, Instant)>,
}

impl Settled {
    /// A revision was applied at `now`.
    pub fn applied(&mut self, revision: Revision, now: Instant) {
        self.applied.push_back((revision, now));
    }

    /// A fence found that a revision is enforced; `by_acks`: without waiting leases out.
    pub fn enforced(&mut self, revision: Revision, by_acks: bool) {
        let settled = if by_acks { &mut self.by_acks } else { &mut self.by_wait };
        *settled = revision.max(*settled);
    }

    /// An instant before which a revision was committed, if it is not known to be enforced.
    pub fn committed_before(&self, revision: Revision) -> Option<Instant> {
        self.applied.iter().find(|(applied, _)| revision <= *applied).map(|(_, at)| *at)
    }

    /// Takes the newest listing, at `now`: what was applied D' ago, by the longest of the leases that were listed since
    /// then, is enforced. One from before says nothing of lives that began in between.
    pub fn listed(&mut self, listing: &Listing, policy: &Policy, now: Instant) {
        let wait_out = listing.longest_wait(policy);
        while let Some((applied, at)) = self.applied.front().copied()
            && at <= listing.asked
            && at.plus(wait_out) <= now
        {
            self.applied.pop_front();
            self.enforced(applied, false);
        }
    }

    /// Whether a revision is enforced, and if so whether by acks.
    pub fn look(&self, revision: Revision) -> Option<bool> {
        if revision <= self.by_acks {
            return Some(true);
        }
        (revision <= self.by_wait).then_some(false)
    }

    /// This record as it would look if `now` were instant 0, for a search through all states (`tests/model`). What was
    /// applied before `useless` was applied long enough ago.
    #[must_use]
    pub fn canonical(&self, now: Instant, useless: Instant) -> Self {
        let shifted = |at: Instant| Instant::from_nanos(at.as_nanos().saturating_sub(now.as_nanos())).max(useless);
        let applied = self.applied.iter().map(|(revision, at)| (*revision, shifted(*at))).collect();
        Self { applied, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Policy =
        Policy { lease: Duration::from_secs(10), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };
    const OWN: AdminLife = AdminLife::from_bytes([0; 16]);

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(asked: i64, others: &[(u8, u64)]) -> Listing {
        let node =
            |uid, seconds| AdminNode { life: uid, lease: Duration::from_secs(seconds), heartbeat: 1, address: None };
        let others = others.iter().map(|(uid, seconds)| node(AdminLife::from_bytes([*uid; 16]), *seconds));
        Listing { asked: at(asked), nodes: others.chain([node(OWN, 10)]).collect() }
    }

    fn listed(barrier: &mut Barrier, asked: i64, others: &[(u8, u64)]) {
        barrier.listed(OWN, &listing(asked, others), &EXACT);
    }

    #[test]
    fn nothing_is_known_until_a_listing_that_was_asked_for_after_the_commit() {
        let mut barrier = Barrier::new(at(5));
        listed(&mut barrier, 4, &[]);
        assert_eq!(barrier.standing(at(100)), Standing::Unknown);
        listed(&mut barrier, 5, &[]);
        assert_eq!(barrier.standing(at(6)), Standing::Clear);
    }

    #[test]
    fn others_are_waited_for_until_their_rows_are_gone_or_every_lease_has_run_out() {
        let mut barrier = Barrier::new(at(0));
        listed(&mut barrier, 1, &[(1, 10), (2, 10)]);
        assert_eq!(barrier.standing(at(1)), Standing::Blocked(2, at(11)));
        listed(&mut barrier, 2, &[(2, 10), (3, 10)]);
        assert_eq!(barrier.standing(at(2)), Standing::Blocked(1, at(11)), "3 began after the commit");
        assert_eq!(barrier.standing(at(11)), Standing::WaitedOut);
        listed(&mut barrier, 3, &[(3, 10)]);
        assert_eq!(barrier.standing(at(3)), Standing::Clear);
    }

    #[test]
    fn others_that_have_said_so_are_waited_for_no_longer() {
        let other = |uid| AdminLife::from_bytes([uid; 16]);
        let mut barrier = Barrier::new(at(0));
        // Asked at once, by an older listing.
        barrier.cleared(other(1), Cleared { acked: 2, lapsed: 0 });
        assert_eq!(barrier.standing(at(0)), Standing::Unknown, "there may be more of them");
        listed(&mut barrier, 1, &[(1, 10), (2, 10)]);
        assert_eq!(barrier.standing(at(1)), Standing::Blocked(1, at(11)));
        barrier.cleared(other(2), Cleared { acked: 1, lapsed: 1 });
        assert_eq!(barrier.standing(at(1)), Standing::Clear);
        assert_eq!(barrier.sum(), Cleared { acked: 3, lapsed: 1 });
    }

    #[test]
    fn longer_leases_of_others_are_waited_out_whole() {
        let mut barrier = Barrier::new(at(0));
        listed(&mut barrier, 0, &[(1, 60)]);
        listed(&mut barrier, 1, &[(1, 60)]);
        assert_eq!(barrier.standing(at(60)), Standing::Blocked(1, at(61)));
        assert_eq!(barrier.standing(at(61)), Standing::WaitedOut);
    }

    #[test]
    fn what_was_applied_long_ago_is_enforced_and_with_it_all_before() {
        let mut settled = Settled::default();
        settled.applied(Revision(3), at(0));
        settled.applied(Revision(4), at(2));
        assert_eq!(settled.committed_before(Revision(4)), Some(at(2)));
        settled.listed(&listing(1, &[]), &EXACT, at(10));
        assert_eq!(settled.look(Revision(2)), None);
        settled.listed(&listing(1, &[]), &EXACT, at(11));
        assert_eq!(settled.look(Revision(2)), Some(false));
        assert_eq!(settled.look(Revision(4)), None);
        settled.enforced(Revision(4), true);
        assert_eq!(settled.look(Revision(4)), Some(true));
        assert_eq!(settled.look(Revision(5)), None, "it was never applied here");
    }

    #[test]
    fn time_alone_enforces_nothing_that_was_applied_after_the_others_were_listed() {
        let mut settled = Settled::default();
        settled.applied(Revision(3), at(5));
        // Somebody with longer leases may have begun in between.
        settled.listed(&listing(4, &[]), &EXACT, at(99));
        assert_eq!(settled.look(Revision(3)), None);
        settled.listed(&listing(6, &[(1, 100)]), &EXACT, at(99));
        assert_eq!(settled.look(Revision(3)), None, "somebody has");
        settled.listed(&listing(7, &[(1, 100)]), &EXACT, at(106));
        assert_eq!(settled.look(Revision(3)), Some(false));
    }
}
