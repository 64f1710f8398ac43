//! How many bytes the calls of a listener may hold in memory, for one connection and for all connections together.
//!
//! Each connection has an allowance of its own, which no other connection can use up. What a connection holds beyond it counts
//! against the budget that all connections of the listener share, and against the connection's part of that budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Bytes that each connection may hold whatever the other connections hold: 256 KiB. More than the largest message of a validator,
/// and enough for 64 calls with small messages at a time.
pub const ALLOWANCE: usize = 256 << 10;

/// Which part of the shared budget one connection may hold: an eighth.
const SHARES: usize = 8;

/// The budget that the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    limit: usize,
    held: AtomicUsize,
    metrics: BudgetMetrics,
}

/// The metrics of one listener's budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct BudgetMetrics {
    /// Bytes that connections hold beyond their allowances.
    pub(crate) held: Gauge,
    /// Calls that were refused because their connection held its part.
    pub(crate) refused_by_connection: Counter,
    /// Calls that were refused because all connections together held the shared budget.
    pub(crate) refused_by_listener: Counter,
}

/// What one connection holds.
#[derive(Debug)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
    held: AtomicUsize,
}

/// The connection, or all connections of the listener, hold as much as they may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

impl Shared {
    /// `limit`: in bytes.
    pub(crate) fn new(limit: usize, metrics: BudgetMetrics) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0), metrics })
    }

    fn add(&self, bytes: usize) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.held.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        before + bytes <= self.limit
    }

    fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.held.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Budget {
    /// The budget of one connection of a listener.
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), held: AtomicUsize::new(0) }
    }

    /// Holds `bytes` more, until [`Budget::give_back`].
    ///
    /// # Errors
    /// [`Full`]: nothing more is held. The refusal is counted.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Full> {
        let most = ALLOWANCE + self.shared.limit / SHARES;
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        let Ok(before) = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) else {
            self.shared.metrics.refused_by_connection.inc();
            return Err(Full);
        };
        let shared = beyond_allowance(before + bytes) - beyond_allowance(before);
        if shared > 0 && !self.shared.add(shared) {
            self.give_back(bytes);
            self.shared.metrics.refused_by_listener.inc();
            return Err(Full);
        }
        Ok(())
    }

    /// Holds `bytes` more, even beyond the limits. For what is in memory already and small.
    pub(crate) fn take_regardless(&self, bytes: usize) {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let shared = beyond_allowance(before + bytes) - beyond_allowance(before);
        if shared > 0 {
            self.shared.add(shared);
        }
    }

    /// No longer holds `bytes`.
    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        let shared = beyond_allowance(before) - beyond_allowance(before - bytes);
        if shared > 0 {
            self.shared.subtract(shared);
        }
    }
}

/// How much of what a connection holds counts against the shared budget. Each change of a connection's count moves the shared count
/// by the difference, so that the shared count is the sum over all connections, in whatever order they change.
const fn beyond_allowance(held: usize) -> usize {
    held.saturating_sub(ALLOWANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 1 << 20;

    fn shared() -> Arc<Shared> {
        Shared::new(SHARES * SHARE, BudgetMetrics::default())
    }

    fn held(shared: &Shared) -> usize {
        shared.held.load(Ordering::Relaxed)
    }

    #[test]
    fn no_connection_holds_more_than_its_allowance_and_its_part_of_the_shared_budget() {
        let shared = shared();
        let connection = Budget::of(&shared);
        assert_eq!(connection.take(ALLOWANCE + SHARE), Ok(()));
        assert_eq!(connection.take(1), Err(Full));
        assert_eq!(shared.metrics.refused_by_connection.get(), 1);
        connection.give_back(ALLOWANCE + SHARE);
        assert_eq!((held(&shared), shared.metrics.held.get()), (0, 0));
    }

    #[test]
    fn a_connection_has_its_allowance_when_others_hold_the_whole_shared_budget() {
        let shared = shared();
        let others: Vec<_> = (0..2 * SHARES).map(|_| Budget::of(&shared)).collect();
        let full = others.iter().filter(|other| other.take(ALLOWANCE + SHARE).is_ok()).count();
        assert_eq!((full, held(&shared)), (SHARES, SHARES * SHARE));
        let connection = Budget::of(&shared);
        assert_eq!(connection.take(ALLOWANCE), Ok(()));
        assert_eq!(connection.take(1), Err(Full));
        assert_eq!(usize::try_from(shared.metrics.refused_by_listener.get()), Ok(SHARES + 1));
    }

    #[test]
    fn what_is_taken_regardless_keeps_others_from_taking_more() {
        let shared = shared();
        let connection = Budget::of(&shared);
        connection.take_regardless(ALLOWANCE + 2 * SHARES * SHARE);
        assert_eq!(Budget::of(&shared).take(ALLOWANCE + 1), Err(Full));
        connection.give_back(ALLOWANCE + 2 * SHARES * SHARE);
        assert_eq!(held(&shared), 0);
    }

    #[test]
    fn connections_that_take_and_give_back_at_a_time_lose_nothing() {
        let shared = shared();
        let connection = Budget::of(&shared);
        std::thread::scope(|scope| {
            for n in 1..5 {
                let connection = &connection;
                scope.spawn(move || {
                    for bytes in (1..200).map(|m| m * n * 1_000) {
                        if connection.take(bytes).is_ok() {
                            connection.give_back(bytes);
                        }
                    }
                });
            }
        });
        assert_eq!((held(&shared), connection.held.load(Ordering::Relaxed)), (0, 0));
    }
}
