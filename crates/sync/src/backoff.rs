use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// The wait before the next attempt: 50 ms, doubled each time up to 2 s, and multiplied by a random factor from 0.5 to 1, so that
/// the validators of a failed admin do not reconnect at the same time.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.0.mul_f64(0.5 + random() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }

    /// Begins again with the shortest wait, after a success.
    pub fn reset(&mut self) {
        self.0 = FIRST;
    }
}

/// A random index into a list of `count` items.
pub fn start_anywhere(count: usize) -> usize {
    let random = RandomState::new().build_hasher().finish();
    usize::try_from(random % (count.max(1) as u64)).unwrap_or(0)
}

/// A random number from 0 to 1. The standard library seeds its hashers from the system's randomness, which is enough for jitter.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut bound = FIRST;
        for _ in 0..12 {
            let wait = backoff.next_wait();
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
