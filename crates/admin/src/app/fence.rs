use std::time::{Duration, Instant};

use keyward_domain::{Error, Revision};

use crate::app::App;
use crate::sync::BarrierOutcome;

/// A new key should work at once, but nobody is harmed when it works a little later.
const WIDENING_LIMIT: Duration = Duration::from_millis(250);

/// How long a narrowing change waits for every connected validator, whatever the caller's patience.
pub(super) const NARROWING_LIMIT: Duration = Duration::from_secs(5);

/// How it is known that no validator answers from before a revision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EnforcedBy {
    /// All acknowledged.
    Acks,
    /// Some did not, and have lost the right to answer.
    WaitOut,
    /// It is not known yet.
    Pending,
}

/// What a change returns about its way to the validators.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) revision: Revision,
    pub(crate) enforced_by: EnforcedBy,
    pub(crate) acked: usize,
    pub(crate) lapsed: usize,
    pub(crate) elapsed: Duration,
}

impl App {
    /// After a widening change: pushes it, and waits for a short while only.
    pub(super) async fn push(&self, revision: Revision) -> Receipt {
        let begun = Instant::now();
        let outcome = self.publisher.barrier(revision, WIDENING_LIMIT).await;
        receipt(revision, outcome, begun.elapsed())
    }

    /// After a narrowing change: waits until no connected validator answers from before it.
    ///
    /// # Errors
    /// `NOT_YET_ENFORCED` when `limit` was not enough.
    pub(super) async fn fence(&self, revision: Revision, limit: Duration) -> Result<Receipt, Error> {
        let begun = Instant::now();
        let outcome = self.publisher.barrier(revision, limit.min(NARROWING_LIMIT)).await;
        self.metrics.fence(outcome.missing == 0, begun.elapsed());
        if outcome.missing > 0 {
            return Err(Error::not_yet_enforced(revision, outcome.missing));
        }
        Ok(receipt(revision, outcome, begun.elapsed()))
    }
}

const fn receipt(revision: Revision, outcome: BarrierOutcome, elapsed: Duration) -> Receipt {
    let enforced_by = match outcome {
        BarrierOutcome { missing: 1.., .. } => EnforcedBy::Pending,
        BarrierOutcome { lapsed: 1.., .. } => EnforcedBy::WaitOut,
        BarrierOutcome { .. } => EnforcedBy::Acks,
    };
    Receipt { revision, enforced_by, acked: outcome.acked, lapsed: outcome.lapsed, elapsed }
}
