use std::time::{Duration, Instant};

use keyward_domain::{Error, Revision};

use crate::app::App;
use crate::sync::FenceOutcome;

/// A new key should work at once, but nobody is harmed when it works a little later.
const WIDENING_LIMIT: Duration = Duration::from_millis(250);

/// What the answer needs to travel before the caller's own deadline.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// What is left to wait of a caller's patience, `used` of which is gone.
pub(super) fn within(patience: Option<Duration>, used: Duration) -> Option<Duration> {
    patience.map(|patience| patience.saturating_sub(used + ANSWER_MARGIN))
}

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

impl Receipt {
    /// Of a change that no validator needs to know, and every admin does.
    pub(super) const fn at_once(revision: Revision) -> Self {
        Self { revision, enforced_by: EnforcedBy::Acks, acked: 0, lapsed: 0, elapsed: Duration::ZERO }
    }
}

impl App {
    /// After a widening change: pushes it, and waits for a short while only.
    pub(super) async fn push(&self, revision: Revision) -> Receipt {
        let begun = Instant::now();
        // Another admin's validators learn of it just as soon, but only leases would tell when.
        let outcome = self.publisher.fence(revision, Some(WIDENING_LIMIT), |outcome| outcome.only_others).await;
        receipt(revision, outcome, begun.elapsed())
    }

    /// After a narrowing change: waits until no validator answers from before it: each has acknowledged it,
    /// or its lease has run out.
    ///
    /// # Errors
    /// `NOT_YET_ENFORCED` when `limit` was not enough; `STORE_UNAVAILABLE` when the database may have lost the change.
    pub(super) async fn fence(&self, revision: Revision, limit: Option<Duration>) -> Result<Receipt, Error> {
        let begun = Instant::now();
        let outcome = self.publisher.fence(revision, limit, |_| false).await;
        self.metrics.fence(outcome.missing == 0, begun.elapsed());
        if outcome.parted {
            return Err(Error::history_changed());
        }
        if outcome.missing > 0 {
            return Err(Error::not_yet_enforced(revision, outcome.missing));
        }
        Ok(receipt(revision, outcome, begun.elapsed()))
    }
}

const fn receipt(revision: Revision, outcome: FenceOutcome, elapsed: Duration) -> Receipt {
    let enforced_by = match outcome {
        FenceOutcome { missing: 1.., .. } => EnforcedBy::Pending,
        FenceOutcome { waited_out: true, .. } => EnforcedBy::WaitOut,
        FenceOutcome { .. } => EnforcedBy::Acks,
    };
    Receipt { revision, enforced_by, acked: outcome.acked, lapsed: outcome.lapsed, elapsed }
}
