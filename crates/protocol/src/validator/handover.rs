use std::time::Duration;

/// A session that requests are answered under, beside a second session that may replace it.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    /// D, the longest lease.
    pub lease: Duration,
    /// How long the current session's lease runs on.
    pub current_left: Duration,
    /// `true` if the current session's admin has sent a Goodbye.
    pub admin_leaves: bool,
    /// How long the second session's lease runs on; zero if it has none.
    pub next_left: Duration,
    /// `true` if the second session's admin should have granted a lease by now.
    pub next_is_overdue: bool,
}

/// What to do with the two sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Keep both.
    Wait,
    /// Leave the current session: the second one has a lease that is longer by enough.
    Move,
    /// Leave the second session: its admin grants no lease.
    NoLease,
    /// Leave the second session: its lease is hardly longer.
    NotBetter,
}

/// Returns `true` if another admin should be tried: a lease of `left` is too short for a healthy admin.
pub fn is_short(left: Duration, lease: Duration) -> bool {
    left < lease * 2 / 3
}

impl Handover {
    /// Decides which session to leave, if any. The current session is left only for one that has a lease, so that requests
    /// are answered throughout.
    pub fn decide(&self) -> Decision {
        if self.next_left.is_zero() {
            return if self.next_is_overdue { Decision::NoLease } else { Decision::Wait };
        }
        // The gain must be worth a move: of several admins over one slow database, one is always a little ahead.
        let enough = self.current_left + self.lease / 10;
        if self.admin_leaves || self.next_left >= enough { Decision::Move } else { Decision::NotBetter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDOVER: Handover = Handover {
        lease: Duration::from_secs(10),
        current_left: Duration::from_secs(5),
        admin_leaves: false,
        next_left: Duration::ZERO,
        next_is_overdue: false,
    };

    #[test]
    fn a_validator_moves_only_to_a_lease_that_is_longer_by_enough() {
        let with = |seconds| Handover { next_left: Duration::from_secs(seconds), ..HANDOVER }.decide();
        assert_eq!([0, 5, 6].map(with), [Decision::Wait, Decision::NotBetter, Decision::Move]);
    }

    #[test]
    fn any_lease_is_enough_if_the_admin_leaves_and_none_never_is() {
        let leaving = Handover { admin_leaves: true, ..HANDOVER };
        assert_eq!(leaving.decide(), Decision::Wait);
        assert_eq!(Handover { next_left: Duration::from_secs(1), ..leaving }.decide(), Decision::Move);
        assert_eq!(Handover { next_is_overdue: true, ..leaving }.decide(), Decision::NoLease);
    }
}
