use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::Error;
use keyward_token::DigestKey;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseBackend, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;

use crate::migration::Migrator;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is for neither database.
    #[error("the database URL must start with sqlite: or postgres:")]
    Scheme,
    /// Another process has this SQLite file open as its own. Two would break the fence: only the holder may grant leases.
    #[error("another keyward process uses the database {0}")]
    InUse(PathBuf),
    /// The lock file beside the SQLite file could not be made; likely the directory is missing or not writable.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The driver could not connect or migrate; the text is the driver's and may name hosts, never a password.
    #[error("cannot open the database: {0}")]
    Driver(#[from] DbErr),
    /// The keyring at hand is not the one that this database was made with.
    #[error(
        "this keyring is not the one that the database was made with; with it every token would be unknown. Start with the original keyring"
    )]
    WrongKeyring,
    /// The database answered something that it should not have.
    #[error("{0}")]
    Store(#[from] Error),
}

/// Keyward's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// SQLite: one connection, so that writers queue here and not on a busy database. PostgreSQL: the same pool as `reader`.
    pub(crate) writer: DatabaseConnection,
    pub(crate) reader: DatabaseConnection,
    pub(crate) chain_key: Arc<DigestKey>,
    /// Held for as long as any clone lives.
    _lock: Option<Arc<File>>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// `url`: `sqlite:PATH` (made if missing; WAL, synchronous FULL) or `postgres://…`. `chain_key` keys the change log's
    /// hash chain.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, chain_key: DigestKey) -> Result<Self, OpenError> {
        let store = if let Some(path) = url.strip_prefix("sqlite:") {
            Self::open_sqlite(Path::new(path), chain_key).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Self::open_postgres(url, chain_key).await?
        } else {
            return Err(OpenError::Scheme);
        };
        Migrator::up(&store.writer, None).await?;
        Ok(store)
    }

    async fn open_sqlite(path: &Path, chain_key: DigestKey) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let writer = Database::connect(sqlite_options(path, 1)).await?;
        let reader = Database::connect(sqlite_options(path, 4)).await?;
        Ok(Self { writer, reader, chain_key: Arc::new(chain_key), _lock: Some(Arc::new(lock)) })
    }

    async fn open_postgres(url: &str, chain_key: DigestKey) -> Result<Self, OpenError> {
        let mut options = ConnectOptions::new(url);
        options.max_connections(16).acquire_timeout(Duration::from_secs(5)).sqlx_logging(false);
        let pool = Database::connect(options).await?;
        Ok(Self { writer: pool.clone(), reader: pool, chain_key: Arc::new(chain_key), _lock: None })
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.writer.get_database_backend() == DatabaseBackend::Sqlite
    }

    /// Closes every connection. SQLite folds its write-ahead log into the file.
    pub async fn close(self) {
        // A failure to close cleanly loses nothing: the log is replayed at the next start.
        let _ = self.reader.close().await;
        let _ = self.writer.close().await;
    }
}

fn sqlite_options(path: &Path, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(format!("sqlite:{}?mode=rwc", path.display()));
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .sqlx_logging(false);
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            // With NORMAL a power cut may roll back what was acknowledged: a resurrected key.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
    });
    options
}

fn lock(database: &Path) -> Result<File, OpenError> {
    let path = database.with_extension("lock");
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
