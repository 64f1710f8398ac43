use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// How long to wait before the next try: twice as long each time, times a random factor from a half to one, so that
/// those that lost the same admin do not all come back at once.
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

    /// A session went well.
    pub fn reset(&mut self) {
        self.0 = FIRST;
    }
}

/// A place in a list of so many.
pub fn start_anywhere(count: usize) -> usize {
    let random = RandomState::new().build_hasher().finish();
    usize::try_from(random % (count.max(1) as u64)).unwrap_or(0)
}

/// From 0 to 1. The standard library seeds its hashers from the system's randomness, which is all that jitter needs.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew_after_success() {
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
