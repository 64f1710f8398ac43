//! Simulated time, and what a machine's clock makes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_protocol::Instant;
use keyward_replica::Clock;

/// How far the simulator goes at once. In a step it runs one machine after the other, and delivers what they send at the
/// beginning of the next.
pub(crate) const STEP: Duration = Duration::from_millis(4);

/// How long the simulation has run, as seen from within it.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

pub(crate) async fn sleep_until(at: Duration) {
    tokio::time::sleep(at.saturating_sub(now())).await;
}

/// Waits for the next middle of a step.
pub(crate) async fn middle_of_a_step() {
    let into = now().as_micros() % STEP.as_micros();
    let middle = STEP.as_micros() / 2;
    let left = if into <= middle { middle - into } else { STEP.as_micros() - into + middle };
    if left > 0 {
        tokio::time::sleep(Duration::from_micros(u64::try_from(left).unwrap())).await;
    }
}

/// CLOCK_BOOTTIME of one machine, which survives its processes. It may run fast or slow; a broken one also stops in suspend.
#[derive(Debug)]
pub(crate) struct MachineClock(Mutex<Face>);

#[derive(Debug)]
struct Face {
    /// What it showed at some instant of the simulation.
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

    /// From `now` on it runs at that rate.
    pub(crate) fn run_at(&self, now: Duration, rate: f64) {
        let mut face = self.0.lock().unwrap();
        *face = Face { shown: face.shows(now), at: now, rate };
    }

    pub(crate) fn rate(&self) -> f64 {
        self.0.lock().unwrap().rate
    }

    /// Seconds since the machine booted.
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
