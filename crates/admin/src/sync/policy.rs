use std::ops::RangeInclusive;
use std::time::Duration;

use keyward_domain::Error;
use keyward_replica::Policy;
use keyward_store::Store;

/// The setting that holds D, in milliseconds. Absent: the default.
const LEASE_MS: &str = "lease_ms";

/// The setting that holds the longest D that ever was, in milliseconds. A restart waits by it: after a change from 10 s
/// to 2 s, a process that starts twice in a row would else forget leases of the life before the last.
const LONGEST_LEASE_MS: &str = "longest_lease_ms";

/// The setting that says whether a validator in another process was ever granted a lease. Those of this process end
/// with it.
const EXTERNAL_LEASES: &str = "external_leases";

/// What the database says about leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    pub(super) policy: Policy,
    /// By which policy an earlier process may have given leases that are still in use.
    pub(super) former_lives: Option<Policy>,
}

/// Below, a hiccup of the network is an outage; above, a deactivation can take minutes.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);

/// A longest lease that somebody wishes for.
///
/// # Errors
/// It is too short or too long.
pub fn check_lease(lease: Duration) -> Result<Duration, &'static str> {
    if LEASES.contains(&lease) { Ok(lease) } else { Err("a lease is 1s to 120s long") }
}

/// Agrees on a longest lease for admins that start from now on. Those that run keep theirs: each says in its own row by
/// what it grants, so that others wait for it as long as they must.
///
/// # Errors
/// `STORE_UNAVAILABLE`.
pub async fn put_lease(store: &Store, lease: Duration) -> Result<(), Error> {
    write(store, LEASE_MS, lease).await
}

/// Reads the policy of a database that admins share. Former lives have rows of their own.
pub(super) async fn agreed(store: &Store) -> Result<Policy, Error> {
    let default = Policy::default();
    Ok(Policy { lease: read(store, LEASE_MS).await?.unwrap_or(default.lease), ..default })
}

/// Reads the policy of a database that one admin has to itself; `lease`: a D to agree on from now on. What was given under
/// longer ones is waited out by the longest.
pub(super) async fn agree(store: &Store, lease: Option<Duration>) -> Result<Agreed, Error> {
    let default = Policy::default();
    // Absent at the very first start only: nothing was granted yet.
    let before = read(store, LEASE_MS).await?;
    let policy = Policy { lease: lease.or(before).unwrap_or(default.lease), ..default };
    let longest_before = read(store, LONGEST_LEASE_MS).await?.or(before).unwrap_or_default();
    let longest = longest_before.max(policy.lease);
    // Before anything is granted, and the longest first: a crash in between errs towards waiting.
    write(store, LONGEST_LEASE_MS, longest).await?;
    write(store, LEASE_MS, policy.lease).await?;
    let external = store.setting(EXTERNAL_LEASES).await?.is_some();
    Ok(Agreed { policy, former_lives: external.then_some(Policy { lease: longest, ..default }) })
}

async fn read(store: &Store, name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = store.setting(name).await? else { return Ok(None) };
    let millis = text.parse().map_err(|e| Error::internal(format!("setting {name}: {e}")))?;
    Ok(Some(Duration::from_millis(millis)))
}

async fn write(store: &Store, name: &str, value: Duration) -> Result<(), Error> {
    if read(store, name).await? == Some(value) {
        return Ok(());
    }
    store.put_setting(name, &value.as_millis().to_string()).await
}

/// Notes, before the first lease to a validator in another process, that a restart will have to wait such leases out.
pub(super) async fn expect_external_leases(store: &Store) -> Result<(), Error> {
    if store.setting(EXTERNAL_LEASES).await?.is_none() {
        store.put_setting(EXTERNAL_LEASES, "true").await?;
    }
    Ok(())
}
