#[cfg(feature = "simulation")]
use std::sync::Arc;

use keyward_protocol::Instant;

/// A clock that leases are judged by. It must count the time that the machine is suspended.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Instant;
}

/// CLOCK_BOOTTIME. Never `std::time::Instant`: that is CLOCK_MONOTONIC, which stops while the machine is suspended, so a
/// machine that resumes would take an expired lease for a valid one (rust-lang/rust#87906).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Instant::from_nanos(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
    }
}

/// The clock of a server.
#[derive(Clone, Default)]
pub enum AnyClock {
    /// This machine's clock.
    #[default]
    Boot,
    /// A clock of a simulation, which gives each of its machines a clock of its own.
    #[cfg(feature = "simulation")]
    Simulated(Arc<dyn Clock>),
}

impl Clock for AnyClock {
    fn now(&self) -> Instant {
        match self {
            Self::Boot => BootClock.now(),
            #[cfg(feature = "simulation")]
            Self::Simulated(clock) => clock.now(),
        }
    }
}

impl std::fmt::Debug for AnyClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Boot => "Boot",
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => "Simulated",
        })
    }
}
