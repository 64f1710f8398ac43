use std::time::Duration;

use crate::policy::Policy;

/// The record about leases in a database that only one admin uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredLeases {
    /// D; `None` before the first start.
    pub lease: Option<Duration>,
    /// The longest D that was ever in force. A new process waits for leases of this length. With the current D instead, a
    /// second restart after a change from 10 s to 2 s would ignore leases of 10 s.
    pub longest: Option<Duration>,
    /// `true` if a validator in another process may have been granted a lease. Leases of this process end with it.
    pub external: bool,
}

/// The timing parameters of a process that starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// The policy to grant by.
    pub policy: Policy,
    /// The longest D ever in force, to be recorded before `policy` and before the first grant.
    pub longest: Duration,
    /// The policy by which an earlier process may have granted leases that are still in use; `None` if none may have.
    pub former_lives: Option<Policy>,
}

impl StoredLeases {
    /// The parameters of a process that starts, `requested` being a new D, if there is one.
    pub fn agree(self, requested: Option<Duration>) -> Agreement {
        let default = Policy::default();
        let policy = Policy { lease: requested.or(self.lease).unwrap_or(default.lease), ..default };
        let longest = self.longest.or(self.lease).unwrap_or_default().max(policy.lease);
        let former_lives = self.external.then_some(Policy { lease: longest, ..default });
        Agreement { policy, longest, former_lives }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn leases_of_earlier_processes_are_waited_out_by_the_longest_lease_ever_in_force() {
        let stored = StoredLeases { lease: seconds(2), longest: seconds(10), external: true };
        let agreement = stored.agree(seconds(1));
        assert_eq!(agreement.policy.lease, Duration::from_secs(1));
        assert_eq!(agreement.former_lives.map(|former| former.lease), seconds(10));
        assert_eq!(StoredLeases { external: false, ..stored }.agree(None).former_lives, None);
    }

    #[test]
    fn a_new_database_starts_with_the_default_policy() {
        let Agreement { policy, longest, former_lives } = StoredLeases::default().agree(None);
        assert_eq!((policy, longest, former_lives), (Policy::default(), policy.lease, None));
    }
}
