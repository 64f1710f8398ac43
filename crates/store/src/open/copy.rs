//! Copies of a SQLite database, for backups: how one is made while the database is in use, and how it is checked.

use std::path::Path;
use std::time::Duration;

use keyward_token::DigestKey;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseBackend, Statement};

use crate::open::error::OpenError;
use crate::open::soundness::{FileCheck, check_file, of_file};
use crate::pools::Pools;
use crate::store::{Backend, Store};

/// The longest wait for a lock on the database. Writers hold it for milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

impl Store {
    /// Copies the SQLite database at `database` into the empty file `copy`, as of one moment. Another process may use the
    /// database meanwhile: neither its reads nor its writes wait. The copy is not flushed to the disk.
    ///
    /// # Errors
    /// [`OpenError`]: the database cannot be read, or the copy cannot be written.
    pub async fn copy_sqlite(database: &Path, copy: &Path) -> Result<(), OpenError> {
        // SQLite takes text. A path that starts with a slash is not taken for a URI.
        let target = copy.canonicalize().map_err(|source| OpenError::Private { path: copy.to_owned(), source })?;
        let Some(target) = target.to_str() else { return Err(OpenError::PathNotText(copy.to_owned())) };
        let source = Database::connect(options(database, false)).await.map_err(|error| of_file(database, error))?;
        // VACUUM INTO reads in one transaction, and writes no page that the copy does not need.
        let vacuum = Statement::from_sql_and_values(DatabaseBackend::Sqlite, "VACUUM INTO ?", [target.into()]);
        let copied = source.execute_raw(vacuum).await;
        // A close that fails loses nothing: the connection has written nothing to the database.
        let _ = source.close().await;
        copied.map(|_| ()).map_err(|error| of_file(database, error))
    }

    /// Opens a copy of a SQLite database to check it. Nothing can be written to it. Checks the structure of the file, its
    /// indexes and the end of its log; [`Store::verify_log`] checks the rest.
    ///
    /// # Errors
    /// [`OpenError`], also if a migration is pending.
    pub async fn open_copy(path: &Path, chain_key: DigestKey) -> Result<Self, OpenError> {
        let only = Database::connect(options(path, true)).await.map_err(|error| of_file(path, error))?;
        check_file(&only, path, FileCheck::WithIndexes).await?;
        let pools = Pools { writer: only.clone(), reader: only.clone(), heartbeats: only };
        let store = Self::new(pools, Backend::SqliteCopy(path.into()), chain_key);
        store.check_schema().await?;
        store.check_end_of_log().await?;
        Ok(store)
    }
}

/// How to connect to a file that is only read.
fn options(path: &Path, read_only: bool) -> ConnectOptions {
    // The path is set below: in a URL, `?`, `#` and `%` would be syntax.
    let mut options = ConnectOptions::new("sqlite:");
    let path = path.to_owned();
    options.max_connections(1).min_connections(1).acquire_timeout(LOCK_TIMEOUT).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        // Reading a database in WAL mode needs write access to its shared memory, so a database in use is not opened read-only.
        sqlite.filename(&path).create_if_missing(false).read_only(read_only).busy_timeout(LOCK_TIMEOUT)
    });
    options
}
