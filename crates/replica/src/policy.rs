use std::time::Duration;

const MILLION: u128 = 1_000_000;

/// What admins and validators of one deployment agree on about time. Kept in the database: a lease that one side counts
/// shorter than the other is no lease.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Policy {
    /// Longest lease, D: how long an outage validators ride out, and how long a deactivation may take while something is
    /// broken.
    pub lease: Duration,
    /// ρ, the bound on the error of a clock's rate, in parts per million. chrony slews by up to 83 333.
    pub clock_rate_error_ppm: u32,
    /// m, what scheduling and clock granularity may cost.
    pub clock_margin: Duration,
}

impl Default for Policy {
    /// D 10 s, ρ 10 %, m 50 ms.
    fn default() -> Self {
        Self { lease: Duration::from_secs(10), clock_rate_error_ppm: 100_000, clock_margin: Duration::from_millis(50) }
    }
}

impl Policy {
    /// D' = D·(1+ρ)/(1−ρ) + m: after so long on its own clock a waiter knows that every lease which was given before it
    /// began to wait has run out on any clock within ρ.
    pub fn wait_out(&self) -> Duration {
        self.held(self.lease)
    }

    /// For how long, on the granter's clock, a lease of `duration` on the holder's may still be in use.
    pub fn held(&self, duration: Duration) -> Duration {
        let rho = u128::from(self.clock_rate_error_ppm).min(MILLION - 1);
        // Rounded up: a nanosecond too long is harmless.
        let nanos = (duration.as_nanos() * (MILLION + rho)).div_ceil(MILLION - rho);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).saturating_add(self.clock_margin)
    }

    /// How often validators renew: ten times a lease, but at least once a second.
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
