use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use keyward_domain::{Expectation, Revision, Timestamp, Verdict};
use keyward_protocol::Instant;
use keyward_protocol::validator::Lease;
use keyward_token::{Digest, DigestKey, TokenFormat};

use crate::clock::Clock;
use crate::lease::LeaseCell;
use crate::table::{Facts, SharedTable};

/// A validator's memory as requests read it. Written by one [`crate::ReplicaWriter`].
#[derive(Debug)]
pub struct Replica<C> {
    clock: C,
    lease: LeaseCell,
    /// The database's wall clock minus this machine's boot clock, in microseconds, by the last grant.
    wall_offset: AtomicI64,
    state: ArcSwap<State>,
}

/// What a snapshot replaces as a whole.
#[derive(Debug, Default)]
struct State {
    table: Arc<SharedTable>,
    keys: TokenKeys,
}

/// What tokens are looked up by.
#[derive(Clone, Debug, Default)]
pub struct TokenKeys {
    /// The shape of a token.
    pub format: TokenFormat,
    /// The digest keys in use, the newest last.
    pub digest_keys: Vec<DigestKey>,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoAnswer {
    /// The lease has expired: a key may have been deactivated without this replica knowing.
    NoLease,
    /// The replica has not reached the revision that the request demands.
    Behind {
        /// The revision of the replica.
        reached: Revision,
    },
}

/// A verdict with the facts about the key.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Valid, or the reason why not.
    pub verdict: Verdict,
    /// The key; `None` for MALFORMED and UNKNOWN.
    pub key: Option<Arc<Facts>>,
    /// The revision of the table that answered.
    pub revision: Revision,
}

impl<C: Clock> Replica<C> {
    /// An empty replica without a lease.
    pub fn new(clock: C) -> Self {
        Self { clock, lease: LeaseCell::default(), wall_offset: AtomicI64::new(0), state: ArcSwap::default() }
    }

    /// Judges a token. `at_least`: the lowest revision that may answer.
    ///
    /// The reads are in the order lease, clock, table, which makes a pause between any two of them harmless; see [`Lease`].
    ///
    /// # Errors
    /// [`NoAnswer`], which the caller must render as UNAVAILABLE.
    pub fn judge(&self, token: &str, expectation: &Expectation<'_>, at_least: Revision) -> Result<Answer, NoAnswer> {
        let lease = self.lease.load();
        let now = self.clock.now();
        if !lease.is_valid_at(now) {
            return Err(NoAnswer::NoLease);
        }
        let state = self.state.load();
        let revision = state.table.revision();
        if revision < at_least {
            return Err(NoAnswer::Behind { reached: revision });
        }
        let Ok(parsed) = state.keys.format.parse(token) else {
            return Ok(Answer { verdict: Verdict::Malformed, key: None, revision });
        };
        let wall = self.wall_time(now);
        let found = state
            .keys
            .digest_keys
            .iter()
            .rev()
            .find_map(|key| state.table.judge(&key.digest(parsed), expectation, wall));
        Ok(match found {
            Some((verdict, key)) => Answer { verdict, key: Some(key), revision },
            None => Answer { verdict: Verdict::Unknown, key: None, revision },
        })
    }

    /// Returns `true` if a request that starts now may be answered.
    pub fn holds_lease(&self) -> bool {
        let lease = self.lease.load();
        lease.is_valid_at(self.clock.now())
    }

    /// The revision up to which requests see every change.
    pub fn revision(&self) -> Revision {
        self.state.load().table.revision()
    }

    /// The number of tokens in the table.
    pub fn tokens(&self) -> usize {
        self.state.load().table.len()
    }

    /// The clock that leases are judged by.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// Publishes the lease that requests are answered under.
    pub(crate) fn publish_lease(&self, lease: Lease) {
        self.lease.store(lease);
    }

    /// The database's wall clock at a boot-clock instant.
    fn wall_time(&self, at: Instant) -> Timestamp {
        Timestamp::from_micros(self.wall_offset.load(Ordering::Relaxed).saturating_add(at.as_nanos() / 1_000))
    }

    /// Records the database's clock at an instant. The instant is from *before* the grant was asked for, so this clock runs ahead
    /// of the database's by at most a round trip: an expired key is never accepted late.
    pub(crate) fn set_wall_time(&self, at: Instant, wall: Timestamp) {
        self.wall_offset.store(wall.as_micros().saturating_sub(at.as_nanos() / 1_000), Ordering::Relaxed);
    }

    /// Makes requests read another table.
    pub(crate) fn install(&self, table: Arc<SharedTable>, keys: TokenKeys) {
        self.state.store(Arc::new(State { table, keys }));
    }

    /// The digest of a token, under the newest digest key; for tests and tools.
    pub fn digest(&self, token: &str) -> Option<Digest> {
        let state = self.state.load();
        let parsed = state.keys.format.parse(token).ok()?;
        Some(state.keys.digest_keys.last()?.digest(parsed))
    }
}
