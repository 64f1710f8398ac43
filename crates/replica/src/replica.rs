use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use keyward_domain::{Expectation, Revision, Timestamp, Verdict};
use keyward_token::{Digest, DigestKey, TokenFormat};

use crate::clock::{Clock, Instant};
use crate::lease::Lease;
use crate::table::{Facts, Table};

/// A validator's memory as requests see it. Written by one [`crate::Follower`], read by every request.
#[derive(Debug)]
pub struct Replica<C> {
    clock: C,
    lease: Lease,
    /// Wall-clock microseconds minus boot-clock microseconds, as the last grant gave them.
    wall_offset: AtomicI64,
    state: ArcSwap<State>,
}

/// What changes as a whole, at a snapshot.
#[derive(Debug, Default)]
struct State {
    table: Arc<Table>,
    format: TokenFormat,
    digest_keys: Vec<DigestKey>,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoAnswer {
    /// The lease has lapsed: somebody may have deactivated the key without this replica knowing.
    NoLease,
    /// The replica has not come as far as the request demands.
    Behind {
        /// How far it has come.
        reached: Revision,
    },
}

/// A verdict with what is known of the key.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Accept, or why not.
    pub verdict: Verdict,
    /// The key; none for MALFORMED and UNKNOWN.
    pub key: Option<Arc<Facts>>,
    /// The revision of the memory that answered.
    pub revision: Revision,
}

impl<C: Clock> Replica<C> {
    /// An empty one, without a lease.
    pub fn new(clock: C) -> Self {
        Self { clock, lease: Lease::default(), wall_offset: AtomicI64::new(0), state: ArcSwap::default() }
    }

    /// Judges a token. `at_least`: the revision that the answer must have reached.
    ///
    /// The order lease, clock, table is what makes a pause between any two steps harmless.
    ///
    /// # Errors
    /// [`NoAnswer`], of which the caller must make UNAVAILABLE: never a guess.
    pub fn judge(&self, token: &str, expectation: &Expectation<'_>, at_least: Revision) -> Result<Answer, NoAnswer> {
        let until = self.lease.until();
        let now = self.clock.now();
        if now >= until {
            return Err(NoAnswer::NoLease);
        }
        let state = self.state.load();
        let revision = state.table.revision();
        if revision < at_least {
            return Err(NoAnswer::Behind { reached: revision });
        }
        let Ok(parsed) = state.format.parse(token) else {
            return Ok(Answer { verdict: Verdict::Malformed, key: None, revision });
        };
        let wall = self.wall_time(now);
        let found =
            state.digest_keys.iter().rev().find_map(|key| state.table.judge(&key.digest(parsed), expectation, wall));
        Ok(match found {
            Some((verdict, key)) => Answer { verdict, key: Some(key), revision },
            None => Answer { verdict: Verdict::Unknown, key: None, revision },
        })
    }

    /// Whether it may answer now.
    pub fn holds_lease(&self) -> bool {
        let until = self.lease.until();
        self.clock.now() < until
    }

    /// The revision up to which every change is visible.
    pub fn revision(&self) -> Revision {
        self.state.load().table.revision()
    }

    /// How many tokens it knows.
    pub fn tokens(&self) -> usize {
        self.state.load().table.len()
    }

    /// The clock that leases are judged by.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// The lease; the follower's to publish.
    pub(crate) const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The database's wall clock at a boot-clock instant.
    fn wall_time(&self, at: Instant) -> Timestamp {
        Timestamp::from_micros(self.wall_offset.load(Ordering::Relaxed).saturating_add(at.as_nanos() / 1_000))
    }

    /// Learns the wall time at an instant. Told the moment *before* the grant was asked for, it runs ahead of the
    /// database by at most a round trip: an expired key is never accepted late.
    pub(crate) fn set_wall_time(&self, at: Instant, wall: Timestamp) {
        self.wall_offset.store(wall.as_micros().saturating_sub(at.as_nanos() / 1_000), Ordering::Relaxed);
    }

    /// Puts a complete new table in the place of the old one.
    pub(crate) fn install(&self, table: Arc<Table>, format: TokenFormat, digest_keys: Vec<DigestKey>) {
        self.state.store(Arc::new(State { table, format, digest_keys }));
    }

    /// The digest of a token, under the newest digest key; for tests and tools.
    pub fn digest(&self, token: &str) -> Option<Digest> {
        let state = self.state.load();
        let parsed = state.format.parse(token).ok()?;
        Some(state.digest_keys.last()?.digest(parsed))
    }
}
