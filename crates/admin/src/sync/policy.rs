use std::time::Duration;

use keyward_domain::Error;
use keyward_protocol::Policy;
use keyward_protocol::admin::{Agreement, StoredLeases};
use keyward_store::Store;

/// The setting that holds D, in milliseconds. Absent: the default.
const LEASE_MS: &str = "lease_ms";

/// The setting that holds the longest D that was ever in force, in milliseconds.
const LONGEST_LEASE_MS: &str = "longest_lease_ms";

/// The setting that exists if a validator of another process may have been granted a lease.
const EXTERNAL_LEASES: &str = "external_leases";

/// Validates a requested lease length.
///
/// # Errors
/// The rule, if `lease` is too short or too long.
pub fn check_lease(lease: Duration) -> Result<Duration, &'static str> {
    Policy::check_lease(lease)
}

/// Writes the D of admins that start from now on. Running admins keep theirs: the row of each life has its D, so that others
/// wait for it long enough.
///
/// # Errors
/// `STORE_UNAVAILABLE`.
pub async fn put_lease(store: &Store, lease: Duration) -> Result<(), Error> {
    write_duration(store, LEASE_MS, lease).await
}

/// Reads the policy of a database that several admins share. Earlier lives have rows of their own.
pub(super) async fn read(store: &Store) -> Result<Policy, Error> {
    let default = Policy::default();
    Ok(Policy { lease: read_duration(store, LEASE_MS).await?.unwrap_or(default.lease), ..default })
}

/// Agrees on the policy of a database that one admin has to itself. `requested`: a new D, if there is one.
pub(super) async fn agree(store: &Store, requested: Option<Duration>) -> Result<Agreement, Error> {
    let stored = StoredLeases {
        lease: read_duration(store, LEASE_MS).await?,
        longest: read_duration(store, LONGEST_LEASE_MS).await?,
        external: store.setting(EXTERNAL_LEASES).await?.is_some(),
    };
    let agreement = stored.agree(requested);
    // Before anything is granted, and the longest first: a crash in between then makes the next process wait too long.
    write_duration(store, LONGEST_LEASE_MS, agreement.longest).await?;
    write_duration(store, LEASE_MS, agreement.policy.lease).await?;
    Ok(agreement)
}

/// Records, before the first lease of a validator in another process, that a restart must wait such leases out.
pub(crate) async fn record_external_leases(store: &Store) -> Result<(), Error> {
    if store.setting(EXTERNAL_LEASES).await?.is_none() {
        store.put_setting(EXTERNAL_LEASES, "true").await?;
    }
    Ok(())
}

async fn read_duration(store: &Store, name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = store.setting(name).await? else { return Ok(None) };
    let millis = text.parse().map_err(|e| Error::internal(format!("setting {name}: {e}")))?;
    Ok(Some(Duration::from_millis(millis)))
}

async fn write_duration(store: &Store, name: &str, value: Duration) -> Result<(), Error> {
    if read_duration(store, name).await? == Some(value) {
        return Ok(());
    }
    store.put_setting(name, &value.as_millis().to_string()).await
}
