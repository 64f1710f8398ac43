//! A SQLite file: one process at a time, readable by its owner only.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward_token::DigestKey;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database};

use crate::connection::pool_guard::{WriterHealth, discard_open_transactions};
use crate::open::error::OpenError;
use crate::open::soundness::{FileCheck, check_file, of_file};
use crate::pools::Pools;
use crate::store::{Backend, Store};

/// Connections for queries. Changes have one connection of their own.
const READERS: u32 = 4;

/// Locks, creates and opens the file at `path`.
pub(crate) async fn open(path: &Path, chain_key: DigestKey) -> Result<Store, OpenError> {
    // One lock per file, under whichever name the file is opened.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let lock = lock(&path)?;
    make_private(&path)?;
    let health = Arc::new(WriterHealth::default());
    let mut writer_options = options(&path, 1);
    let guard = Arc::clone(&health);
    writer_options.map_sqlx_sqlite_pool_opts(move |pool| guard.guard(pool));
    let writer = Database::connect(writer_options).await.map_err(|error| of_file(&path, error))?;
    check_file(&writer, &path, FileCheck::Structure).await?;
    let mut reader_options = options(&path, READERS);
    reader_options.map_sqlx_sqlite_pool_opts(discard_open_transactions);
    let reader = Database::connect(reader_options).await?;
    let heartbeats = writer.clone();
    let backend = Backend::Sqlite { writer: health, path: path.into(), _lock: Arc::new(lock) };
    Ok(Store::new(Pools { writer, reader, heartbeats }, backend, chain_key))
}

/// How to connect to the file at `path`.
pub(crate) fn options(path: &Path, connections: u32) -> ConnectOptions {
    // The path is set below: in a URL, `?`, `#` and `%` would be syntax.
    let mut options = ConnectOptions::new("sqlite:");
    let path = path.to_owned();
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With NORMAL, a power cut may roll back acknowledged commits and bring a deactivated key back.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
    });
    options
}

/// Locks the file `*.lock` beside the database.
fn lock(database: &Path) -> Result<File, OpenError> {
    let path = database.with_extension("lock");
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Creates the database file with mode 0600 if it is missing, and removes access of group and others from the files that an
/// earlier version created: they hold sealed tokens and digests. Called before SQLite opens the file, because SQLite copies
/// the mode of the database file to the write-ahead log and the shared memory.
fn make_private(database: &Path) -> Result<(), OpenError> {
    // Opening a FIFO would block until another process opens its other end.
    if fs::metadata(database).is_ok_and(|metadata| !metadata.is_file()) {
        let source = io::Error::new(ErrorKind::InvalidInput, "the database must be a regular file");
        return Err(OpenError::Private { path: database.to_owned(), source });
    }
    let created = File::options().create(true).append(true).mode(0o600).open(database);
    created.map_err(|source| OpenError::Private { path: database.to_owned(), source })?;
    let beside = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    for path in [database.to_owned(), beside("-wal"), beside("-shm"), database.with_extension("lock")] {
        match tighten(&path) {
            Ok(Some(mode)) => {
                tracing::info!("{} had mode {mode:04o} and has {:04o} now", path.display(), mode & 0o700);
            }
            Ok(None) => {}
            // Only the owner of a file can change its mode. SQLite can still use the file.
            Err(error) => tracing::warn!(%error, "others can read {}: its mode cannot be changed", path.display()),
        }
    }
    Ok(())
}

/// Removes access of group and others. Returns the former mode if it was changed, and `None` if the file is private already
/// or does not exist.
fn tighten(path: &Path) -> io::Result<Option<u32>> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    Ok(Some(mode))
}
