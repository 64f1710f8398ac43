use std::ops::RangeInclusive;
use std::time::Duration;

const MILLION: u128 = 1_000_000;

/// The lengths that D may have. With a shorter D, a short network fault is an outage; with a longer one, a deactivation can
/// take minutes.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);

/// The timing parameters that admins and validators of one deployment share. They are kept in the database, because a lease
/// is only safe if both sides count it by the same parameters.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Policy {
    /// D, the longest lease: how long validators keep answering during an outage, and about how long a deactivation may take
    /// while a validator or an admin is unreachable.
    pub lease: Duration,
    /// ρ, the bound on the rate error of a clock, in parts per million. chrony slews by up to 83 333 ppm.
    pub clock_rate_error_ppm: u32,
    /// m, the margin for scheduling delays and clock granularity.
    pub clock_margin: Duration,
}

impl Default for Policy {
    /// D 10 s, ρ 10 %, m 50 ms.
    fn default() -> Self {
        Self { lease: Duration::from_secs(10), clock_rate_error_ppm: 100_000, clock_margin: Duration::from_millis(50) }
    }
}

impl Policy {
    /// Validates a requested D.
    ///
    /// # Errors
    /// The rule, if `lease` is too short or too long.
    pub fn check_lease(lease: Duration) -> Result<Duration, &'static str> {
        if LEASES.contains(&lease) { Ok(lease) } else { Err("a lease is 1s to 120s long") }
    }

    /// D' = D·(1+ρ)/(1−ρ) + m: how long to wait, on the waiter's clock, until every lease granted before the wait has expired
    /// on every clock whose rate error is within ρ.
    pub fn wait_out(&self) -> Duration {
        self.held(self.lease)
    }

    /// How long, on the granter's clock, a lease of `duration` on the holder's clock may be in use.
    pub fn held(&self, duration: Duration) -> Duration {
        let rho = u128::from(self.clock_rate_error_ppm).min(MILLION - 1);
        // Rounded up: a nanosecond too long is harmless.
        let nanos = (duration.as_nanos() * (MILLION + rho)).div_ceil(MILLION - rho);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).saturating_add(self.clock_margin)
    }

    /// How often validators renew and admins send heartbeats: D/10, at most one second.
    pub fn renew_interval(&self) -> Duration {
        (self.lease / 10).min(Duration::from_secs(1)).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_out_covers_clocks_that_err_by_rho_in_opposite_directions() {
        let policy = Policy::default();
        assert_eq!(policy.wait_out(), Duration::from_nanos(12_222_222_223) + Duration::from_millis(50));
        let exact = Policy { clock_rate_error_ppm: 0, clock_margin: Duration::ZERO, ..policy };
        assert_eq!(exact.wait_out(), policy.lease);
    }
}
