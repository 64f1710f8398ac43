use std::collections::BTreeMap;
use std::time::Duration;

use crate::policy::Policy;
use crate::time::Instant;

/// The longest rest of a validator.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// A validator that has not stayed behind for this long after its last rest counts as one that never did.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The most validators that are remembered. Beyond it, the one whose rest ends first is forgotten.
const MOST: usize = 1_024;

/// The validators whose sessions an admin ended because they stayed behind ([`Pace`](super::Pace)), and how long each has to wait
/// for its next session. The first time there is no wait: a validator that was merely slow reconnects at once, under the lease
/// that it still has. A validator that stays behind again rests, each time for twice as long.
#[derive(Clone, Debug)]
pub struct Laggards<K> {
    known: BTreeMap<K, Laggard>,
}

#[derive(Clone, Copy, Debug)]
struct Laggard {
    /// How many sessions in a row stayed behind.
    times: u32,
    /// When the rest ends.
    until: Instant,
}

impl<K> Default for Laggards<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Laggards<K> {
    /// Records that a session of `validator` stayed behind, and ends at `now`. Returns how long the validator has to wait for its
    /// next session.
    pub fn add(&mut self, validator: K, now: Instant, policy: &Policy) -> Duration {
        self.known.retain(|_, laggard| now < laggard.until.plus(FORGIVEN_AFTER));
        let times = self.known.get(&validator).map_or(0, |laggard| laggard.times).saturating_add(1);
        let rest = rest_after(times, policy);
        self.known.insert(validator, Laggard { times, until: now.plus(rest) });
        if self.known.len() > MOST
            && let Some(first) = self.known.iter().min_by_key(|(_, laggard)| laggard.until).map(|(key, _)| key.clone())
        {
            self.known.remove(&first);
        }
        rest
    }

    /// Returns how long after `now` the next session of `validator` may begin; zero if it may begin now.
    pub fn rest(&self, validator: &K, now: Instant) -> Duration {
        self.known.get(validator).map_or(Duration::ZERO, |laggard| laggard.until.since(now))
    }
}

/// How long a validator rests after that many sessions in a row stayed behind: not at all after the first, half of the longest lease
/// after the second, and then twice as long each time, up to [`LONGEST_REST`]. The lease that a session has when it ends outlasts
/// the first two rests.
fn rest_after(times: u32, policy: &Policy) -> Duration {
    let Some(doublings) = times.checked_sub(2) else { return Duration::ZERO };
    (policy.lease / 2).saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(0);

    fn rests(laggards: &mut Laggards<&'static str>, times: usize) -> (Vec<u64>, Instant) {
        let mut now = START;
        let mut rests = Vec::new();
        for _ in 0..times {
            let rest = laggards.add("one", now, &Policy::default());
            now = now.plus(rest);
            rests.push(rest.as_secs());
        }
        (rests, now)
    }

    #[test]
    fn a_validator_that_stays_behind_rests_only_from_the_second_time_on_and_longer_each_time() {
        let mut laggards = Laggards::default();
        assert_eq!(rests(&mut laggards, 10).0, [0, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn only_the_validator_that_stayed_behind_rests_and_only_until_its_rest_ends() {
        let mut laggards = Laggards::default();
        laggards.add("one", START, &Policy::default());
        assert_eq!(laggards.rest(&"one", START), Duration::ZERO);
        laggards.add("one", START, &Policy::default());
        assert_eq!(laggards.rest(&"one", START), Duration::from_secs(5));
        assert_eq!(laggards.rest(&"two", START), Duration::ZERO);
        assert_eq!(laggards.rest(&"one", START.plus(Duration::from_secs(4))), Duration::from_secs(1));
        assert_eq!(laggards.rest(&"one", START.plus(Duration::from_secs(5))), Duration::ZERO);
    }

    #[test]
    fn a_validator_that_keeps_up_for_ten_minutes_is_forgiven() {
        let mut laggards = Laggards::default();
        let (_, now) = rests(&mut laggards, 4);
        assert_eq!(laggards.add("one", now.plus(FORGIVEN_AFTER), &Policy::default()), Duration::ZERO);
    }

    #[test]
    fn a_bounded_number_of_validators_is_remembered() {
        let mut laggards = Laggards::default();
        for n in 0..2 * MOST {
            laggards.add(n, START, &Policy::default());
        }
        assert_eq!(laggards.known.len(), MOST);
    }
}
