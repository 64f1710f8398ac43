//! Simulated time, and the clocks of the machines.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_protocol::Instant;
use keyward_replica::Clock;

/// The simulator's step. Within a step it runs one machine after the other, and delivers their messages at the
/// beginning of the next step.
pub(crate) const STEP: Duration = Duration::from_millis(4);

/// Returns the time since the simulation began.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

pub(crate) async fn sleep_until(at: Duration) {
    tokio::time::sleep(at.saturating_sub(now())).await;
}

/// Waits until the next middle of a step.
pub(crate) async fn middle_of_a_step() {
    let into = now().as_micros() % STEP.as_micros();
    let middle = STEP.as_micros() / 2;
    let left = if into <= middle { middle - into } else { STEP.as_micros() - into + middle };
    if left > 0 {
        tokio::time::sleep(Duration::from_micros(u64::try_from(left).unwrap())).await;
    }
}

/// The CLOCK_BOOTTIME of one machine, which keeps running across restarts of its processes. Its rate may be wrong. A
/// mutant also stops it during suspensions.
#[derive(Debug)]
pub(crate) struct MachineClock(Mutex<Face>);

#[derive(Debug)]
struct Face {
    /// The time that it showed at `at`.
    shown: f64,
    at: Duration,
    rate: f64,
}

impl Face {
    fn shows(&self, now: Duration) -> f64 {
        self.shown + (now.saturating_sub(self.at)).as_secs_f64() * self.rate
    }
}

impl MachineClock {
    pub(crate) fn new(shown: f64, rate: f64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Face { shown, at: Duration::ZERO, rate })))
    }

    /// Sets the rate from `now` on.
    pub(crate) fn run_at(&self, now: Duration, rate: f64) {
        let mut face = self.0.lock().unwrap();
        *face = Face { shown: face.shows(now), at: now, rate };
    }

    pub(crate) fn rate(&self) -> f64 {
        self.0.lock().unwrap().rate
    }

    /// Returns the seconds since the machine booted.
    pub(crate) fn shows(&self, now: Duration) -> f64 {
        self.0.lock().unwrap().shows(now)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        #[allow(clippy::cast_possible_truncation, reason = "a simulation is seconds long")]
        Instant::from_nanos((self.shows(now()) * 1e9) as i64)
    }
}
