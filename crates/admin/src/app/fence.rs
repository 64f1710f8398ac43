use std::time::{Duration, Instant};

use keyward_domain::{Error, Revision};
use keyward_protocol::admin::{self, FenceStatus, Pending};

use crate::app::App;
use crate::sync::AwaitedPeers;

/// How long a widening change waits for validators: a new key should work at once, but may safely work a little later.
const WIDENING_LIMIT: Duration = Duration::from_millis(250);

/// Time for the answer to reach the caller before its deadline.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// The time that a fence may take of a call with this timeout, of which `used` has passed.
pub(super) fn remaining(timeout: Option<Duration>, used: Duration) -> Option<Duration> {
    timeout.map(|timeout| timeout.saturating_sub(used + ANSWER_MARGIN))
}

/// How a revision came to be enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EnforcedBy {
    /// Every validator acknowledged it.
    Acks,
    /// Some leases were waited out.
    WaitOut,
    /// It is not enforced yet.
    Pending,
}

/// What a change returns about its enforcement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) revision: Revision,
    pub(crate) enforced_by: EnforcedBy,
    pub(crate) acked: usize,
    pub(crate) lapsed: usize,
    pub(crate) elapsed: Duration,
}

impl Receipt {
    /// The receipt of a change that only admins need to know, and that every admin reads from the database.
    pub(super) const fn at_once(revision: Revision) -> Self {
        Self { revision, enforced_by: EnforcedBy::Acks, acked: 0, lapsed: 0, elapsed: Duration::ZERO }
    }
}

impl App {
    /// After a widening change: pushes it, and waits for a short time only.
    pub(super) async fn push(&self, revision: Revision) -> Receipt {
        let begun = Instant::now();
        // Validators of unreachable admins receive the change as soon as others do, but only their leases would prove it.
        let status = self.publisher.fence(revision, Some(WIDENING_LIMIT), AwaitedPeers::Reachable).await;
        receipt(revision, status, begun.elapsed())
    }

    /// After a narrowing change: waits until no validator can answer from before it, because each has acknowledged it or its
    /// lease has expired.
    ///
    /// # Errors
    /// `NOT_YET_ENFORCED` if `limit` was too short; `STORE_UNAVAILABLE` if the database may have lost the change.
    pub(super) async fn fence(&self, revision: Revision, limit: Option<Duration>) -> Result<Receipt, Error> {
        let begun = Instant::now();
        let status = self.publisher.fence(revision, limit, AwaitedPeers::All).await;
        self.metrics.fence(matches!(status, FenceStatus::Enforced { .. }), begun.elapsed());
        match status {
            FenceStatus::Enforced { .. } => Ok(receipt(revision, status, begun.elapsed())),
            FenceStatus::Pending(pending) => Err(Error::not_yet_enforced(revision, pending.missing)),
            FenceStatus::HistoryChanged => Err(Error::history_changed()),
        }
    }
}

const fn receipt(revision: Revision, status: FenceStatus, elapsed: Duration) -> Receipt {
    let (enforced_by, acked, lapsed) = match status {
        FenceStatus::Enforced { acked, lapsed, by: admin::EnforcedBy::Acks } => (EnforcedBy::Acks, acked, lapsed),
        FenceStatus::Enforced { acked, lapsed, by: admin::EnforcedBy::WaitOut } => (EnforcedBy::WaitOut, acked, lapsed),
        FenceStatus::Pending(Pending { acked, lapsed, .. }) => (EnforcedBy::Pending, acked, lapsed),
        FenceStatus::HistoryChanged => (EnforcedBy::Pending, 0, 0),
    };
    Receipt { revision, enforced_by, acked, lapsed, elapsed }
}
