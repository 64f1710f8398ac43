use std::sync::Arc;
use std::time::Duration;

/// An instant on a clock of this machine: nanoseconds since boot, time asleep included.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(i64);

impl Instant {
    /// Before every other instant.
    pub const MIN: Self = Self(i64::MIN);

    /// The instant that many nanoseconds after boot.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The instant `duration` later; the last representable one if there is none.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this instant; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A clock that leases can be judged by. It must count the time that a machine sleeps.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Instant;
}

/// CLOCK_BOOTTIME. Never `std::time::Instant`: that is CLOCK_MONOTONIC, which stands still in suspend, so a machine
/// that wakes up would take a lease of yesterday for good (rust-lang/rust#87906).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Instant(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
    }
}

/// The clock that servers run by, told apart while they run: a simulation gives each of its machines another one.
#[derive(Clone, Default)]
pub enum AnyClock {
    /// This machine's.
    #[default]
    Boot,
    /// Whatever somebody says.
    Told(Arc<dyn Clock>),
}

impl Clock for AnyClock {
    fn now(&self) -> Instant {
        match self {
            Self::Boot => BootClock.now(),
            Self::Told(clock) => clock.now(),
        }
    }
}

impl std::fmt::Debug for AnyClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Boot => "Boot",
            Self::Told(_) => "Told",
        })
    }
}
