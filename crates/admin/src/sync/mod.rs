//! How validators are fed: the image, the publisher that keeps it at the head of the change log, and one session per
//! validator.

mod image;
mod publisher;
mod session;

pub(crate) use publisher::{BarrierOutcome, Publisher};
pub(crate) use session::ReplicaApi;

use std::time::Duration;

/// How long a grant lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How often validators renew.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// A session that has said nothing for this long is over: its validator renews every [`RENEW_INTERVAL`], and a lease
/// from its last renewal has run out.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// Bound on the error of a clock's rate: chrony slews by up to 8.3 %.
pub(crate) const CLOCK_RATE_ERROR_PPM: u32 = 100_000;

/// What scheduling and clock granularity may cost.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_millis(50);
