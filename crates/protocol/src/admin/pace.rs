use std::time::Duration;

use keyward_domain::Revision;

use crate::policy::Policy;
use crate::time::Instant;

/// Decides if a session that renews keeps up with the log: what was published when it renewed must be applied within
/// [`Pace::patience`]. The caller passes no renewal of a session that is behind to the node, and ends its stream. The session then
/// gets no further grant, and its last lease bounds the wait of every fence, as that of a broken stream does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    applied: Revision,
    /// What was published at an earlier renewal, while the session has not applied it.
    awaited: Option<Awaited>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    revision: Revision,
    /// How long the session has not applied the revision.
    waited: Duration,
    /// The newest renewal.
    renewed: Instant,
}

impl Pace {
    /// How long a session may take to apply a change: half of the longest lease, and at least 2 s. That is at least five intervals
    /// of renewals, and a thousand times what a validator on a quiet machine takes. The lease that a session has when it ends
    /// lasts for about as long again, so that a validator that reconnects at once goes on answering.
    pub fn patience(policy: &Policy) -> Duration {
        (policy.lease / 2).max(Duration::from_secs(2))
    }

    /// Records that the session has applied everything up to `revision`, when everything up to `published` was queued to it. What
    /// was not published counts for nothing, and acknowledgements never go back.
    pub fn applied(&mut self, revision: Revision, published: Revision) {
        self.applied = self.applied.max(revision.min(published));
        self.awaited = self.awaited.filter(|awaited| self.applied < awaited.revision);
    }

    /// Records a renewal at `now`, when everything up to `published` was queued to the session. Returns `true` if the session is
    /// behind. Of the time between two renewals at most two intervals count: a longer gap is a pause of this process or of the
    /// network, in which the session could not acknowledge either.
    pub fn renews(&mut self, published: Revision, now: Instant, policy: &Policy) -> bool {
        if self.applied >= published {
            return false;
        }
        let awaited = self.awaited.get_or_insert(Awaited { revision: published, waited: Duration::ZERO, renewed: now });
        awaited.waited += now.since(awaited.renewed).min(policy.renew_interval() * 2);
        awaited.renewed = now;
        awaited.waited >= Self::patience(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { lease: Duration::from_secs(10), clock_rate_error_ppm: 0, clock_margin: Duration::from_secs(1) };

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_session_that_renews_and_acknowledges_nothing_is_behind_after_half_a_lease() {
        let mut pace = Pace::default();
        pace.applied(Revision(4), Revision(4));
        assert!(!pace.renews(Revision(4), at(0), &POLICY));
        let behind = (1..9).find(|now| pace.renews(Revision(4 + *now), at(*now), &POLICY));
        assert_eq!(behind, Some(6));
    }

    #[test]
    fn a_session_that_acknowledges_what_was_never_published_is_behind_all_the_same() {
        let mut pace = Pace::default();
        pace.applied(Revision(i64::MAX), Revision(4));
        let behind = (0..9).find(|now| pace.renews(Revision(5), at(*now), &POLICY));
        assert_eq!(behind, Some(5));
    }

    #[test]
    fn a_session_that_applies_what_was_published_less_than_half_a_lease_ago_is_never_behind() {
        let mut pace = Pace::default();
        for now in 4..100 {
            let published = Revision(now);
            pace.applied(Revision(now - 4), published);
            assert!(!pace.renews(published, at(now), &POLICY), "{now}");
        }
    }

    #[test]
    fn a_pause_of_the_admin_does_not_make_a_session_stay_behind() {
        let mut pace = Pace::default();
        assert!(!pace.renews(Revision(1), at(0), &POLICY));
        // The renewals of the pause arrive together, before the acknowledgement.
        assert!((0..30).all(|_| !pace.renews(Revision(1), at(30), &POLICY)));
        pace.applied(Revision(1), Revision(1));
        assert!(!pace.renews(Revision(1), at(31), &POLICY));
    }

    #[test]
    fn a_short_lease_leaves_a_slow_machine_two_seconds() {
        let policy = Policy { lease: Duration::from_secs(1), ..POLICY };
        assert_eq!(
            (Pace::patience(&policy), Pace::patience(&POLICY)),
            (Duration::from_secs(2), Duration::from_secs(5))
        );
    }
}
