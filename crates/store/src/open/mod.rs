//! Opening a database: locks, connections, checks at start, and migrations.

mod copy;
pub(crate) mod error;
pub(crate) mod exposure;
#[cfg(feature = "simulation")]
mod memory;
mod postgres;
pub(crate) mod renew;
mod schema;
pub(crate) mod soundness;
mod sqlite;
pub(crate) mod url;

use std::path::Path;

use keyward_token::DigestKey;

use crate::open::error::OpenError;
use crate::open::url::is_postgres;
use crate::store::Store;

impl Store {
    /// Opens the database, brings its schema up to date, and checks that the database is whole.
    ///
    /// `url` is `sqlite:PATH` (created if missing; WAL, synchronous FULL) or `postgres://…`. `chain_key` keys the hash chain
    /// of the change log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, chain_key: DigestKey) -> Result<Self, OpenError> {
        let store = if let Some(path) = url.strip_prefix("sqlite:") {
            sqlite::open(Path::new(path), chain_key).await?
        } else if is_postgres(url) {
            Box::pin(postgres::open(url, chain_key)).await?
        } else {
            return Err(OpenError::Scheme);
        };
        store.migrate().await?;
        store.check_end_of_log().await?;
        Ok(store)
    }
}
