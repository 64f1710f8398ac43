//! A database in memory, for simulations.

use std::path::Path;

use keyward_token::DigestKey;
use sea_orm::Database;

use crate::open::error::OpenError;
use crate::open::sqlite;
use crate::pools::Pools;
use crate::store::{Backend, Store};

impl Store {
    /// A SQLite database in the memory of this process, which ends with the last clone. Its clones can stand for admins that
    /// share a database.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn in_memory(chain_key: DigestKey) -> Result<Self, OpenError> {
        let mut options = sqlite::options(Path::new(":memory:"), 1);
        // The database ends with its connection, so the connection is never replaced and needs no test before use.
        options.test_before_acquire(false);
        options.map_sqlx_sqlite_pool_opts(|pool| pool.idle_timeout(None).max_lifetime(None));
        let only = Database::connect(options).await?;
        let pools = Pools { writer: only.clone(), reader: only.clone(), heartbeats: only };
        let store = Self::new(pools, Backend::Memory, chain_key);
        store.migrate().await?;
        Ok(store)
    }
}
