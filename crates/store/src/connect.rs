use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use keyward_domain::{Error, Position};
use keyward_token::DigestKey;
use sea_orm::sqlx::Executor;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, DbErr, RuntimeErr};
use sea_orm_migration::MigratorTrait;

use crate::connection::{Carrier, Connection};
use crate::error::{fault, from_driver};
use crate::migration::{Migrator, SIGNED_SINCE};
use crate::private::make_private;
use crate::renew::ServerOptions;
use crate::seen::Seen;
use crate::sql::sign_head::sign_head;
use crate::suitable;
use crate::write::begin;
use crate::writer::{WriterWatch, outside_transactions};

/// What a PostgreSQL session must be like, whatever the defaults of its database and role are:
///
/// * A transaction that locks the counter sees what was committed before it got the lock. At a higher level it would
///   fail instead, and under load for ever.
/// * What is acknowledged is on disk: otherwise a crash could bring a deactivated key back.
/// * An admin that stops in the middle of a transaction, as one cut off from the network does, holds the counter and
///   with it everybody up. The server ends its session, before those who wait for a connection give up.
const SESSION: &str = "
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SET idle_in_transaction_session_timeout = '3s';
";

/// Connections of an admin's pools: writers, readers, and what keeps leases alive. One of the last beats, one listens, and
/// one is to spare for when either is being replaced.
const POOLS: [u32; 3] = [8, 8, 3];

/// How many connections to PostgreSQL one admin uses at most.
pub(crate) const CONNECTIONS: u32 = POOLS[0] + POOLS[1] + POOLS[2];

/// How long closing may take.
const CLOSING: Duration = Duration::from_secs(3);

/// Whoever holds this advisory lock may migrate: "keyward" in ASCII.
const MIGRATION_LOCK: i64 = 0x006b_6579_7761_7264;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is for neither database.
    #[error("the database URL must start with sqlite: or postgres://")]
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
    /// A file of the SQLite database could not be made readable by its owner only.
    #[error("cannot use {path}: {source}")]
    Private {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database could not be reached, or refused something. The text ends with the driver's own words, which may name
    /// hosts and roles, never a password.
    #[error("cannot open the database: {0}")]
    Driver(String),
    /// The PostgreSQL database has another encoding.
    #[error(
        "the database's encoding is {0}, and Keyward needs UTF8, or some descriptions could not be stored: create it with \
         CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// A pooler changes the server process of a session.
    #[error(
        "the database is behind a connection pooler in transaction mode, where prepared statements and LISTEN get lost: \
         give Keyward the server itself, or a pool in session mode"
    )]
    TransactionPooling,
    /// CONNECTION LIMIT of the role or the database.
    #[error(
        "the database's role may hold {0} connections, and one admin uses up to {CONNECTIONS}: raise CONNECTION LIMIT"
    )]
    TooFewConnections(u32),
    /// The keyring at hand is not the one that this database was made with.
    #[error(
        "this keyring is not the one that the database was made with; with it every token would be unknown. Start with the original keyring"
    )]
    WrongKeyring,
    /// The database answered something that it should not have.
    #[error("{0}")]
    Store(#[from] Error),
}

impl From<DbErr> for OpenError {
    fn from(error: DbErr) -> Self {
        Self::Driver(match fault(&error) {
            Some(fault) => format!("{}: {error}", fault.what),
            None => error.to_string(),
        })
    }
}

impl From<sea_orm::sqlx::Error> for OpenError {
    fn from(error: sea_orm::sqlx::Error) -> Self {
        DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))).into()
    }
}

/// Keyward's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    connections: Arc<RwLock<Connections>>,
    /// How to connect anew; `None`: there is no network in between.
    pub(crate) remote: Option<Arc<ServerOptions>>,
    /// Who takes every call there; `None`: nobody needs to.
    carrier: Option<Arc<dyn Carrier>>,
    /// SQLite: what is known of the connection that writes.
    watch: Option<Arc<WriterWatch>>,
    pub(crate) chain_key: Arc<DigestKey>,
    shared: bool,
    seen: Arc<Mutex<Seen>>,
    /// Held for as long as any clone lives.
    _lock: Option<Arc<File>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// SQLite: one connection, so that writers queue here and not on a busy database. PostgreSQL: a pool apart from
    /// `reader`, for writers wait for each other at the counter, and readers must not wait behind them.
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// For what keeps leases alive: long reads and queueing writers must not delay it. SQLite: the writer.
    pulse: DatabaseConnection,
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
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Box::pin(Self::open_postgres(url, chain_key)).await?
        } else {
            return Err(OpenError::Scheme);
        };
        store.migrate().await?;
        Ok(store)
    }

    /// A store that lives in the memory of this process and dies with it, for simulations. It is SQLite, with all its
    /// rules, so that whatever holds here was shown by the same code; and its clones may stand for admins that share it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn in_memory(chain_key: DigestKey) -> Result<Self, OpenError> {
        let mut options = sqlite_options(Path::new(":memory:"), 1);
        // A memory database ends with its connection, which need not be tried before it is used, and is never replaced.
        options.test_before_acquire(false);
        options.map_sqlx_sqlite_pool_opts(|pool| pool.idle_timeout(None).max_lifetime(None));
        let only = Database::connect(options).await?;
        let mut store = Self::over(Connections { writer: only.clone(), reader: only.clone(), pulse: only }, chain_key);
        store.shared = true;
        store.migrate().await?;
        Ok(store)
    }

    /// The same database by a way that `carrier` makes, for another process of a simulation: it has told nobody anything.
    #[must_use]
    pub fn carried_by(&self, carrier: Arc<dyn Carrier>) -> Self {
        Self { carrier: Some(carrier), seen: Arc::default(), ..self.clone() }
    }

    /// Whether other admins may use the same database at the same time.
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    async fn open_sqlite(path: &Path, chain_key: DigestKey) -> Result<Self, OpenError> {
        // A link to a file that is in use is in use too.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let lock = lock(&path)?;
        make_private(&path)?;
        let watch = Arc::new(WriterWatch::default());
        let writer = Database::connect(writer_options(&path, &watch)).await?;
        let mut readers = sqlite_options(&path, 4);
        readers.map_sqlx_sqlite_pool_opts(outside_transactions);
        let reader = Database::connect(readers).await?;
        let pulse = writer.clone();
        let mut store = Self::over(Connections { writer, reader, pulse }, chain_key);
        (store.watch, store._lock) = (Some(watch), Some(Arc::new(lock)));
        Ok(store)
    }

    fn over(connections: Connections, chain_key: DigestKey) -> Self {
        let connections = Arc::new(RwLock::new(connections));
        Self {
            connections,
            remote: None,
            carrier: None,
            watch: None,
            chain_key: Arc::new(chain_key),
            shared: false,
            seen: Arc::default(),
            _lock: None,
        }
    }

    async fn open_postgres(url: &str, chain_key: DigestKey) -> Result<Self, OpenError> {
        let options = postgres_options(url)?;
        suitable::check(&url.parse::<PgConnectOptions>()?).await?;
        let connections = Connections::to(&options).await?;
        connections.check().await?;
        let mut store = Self::over(connections, chain_key);
        (store.remote, store.shared) = (Some(Arc::new(ServerOptions::new(options))), true);
        Ok(store)
    }

    /// Leaves every connection as it is and makes new ones, for a database that has stopped answering: a connection that
    /// was cut in silence looks sound until TCP gives up on it, which takes a quarter of an hour, and keeps its place in
    /// the pool for as long.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn reconnect(&self) -> Result<(), Error> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let connections = Connections::to(&remote.options()).await.map_err(|e| from_driver(&e))?;
        self.replace(connections);
        Ok(())
    }

    /// Uses these connections from now on. What is under way ends on those that it has.
    pub(crate) fn replace(&self, connections: Connections) {
        *self.connections.write().unwrap_or_else(PoisonError::into_inner) = connections;
    }

    fn connections(&self) -> Connections {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what validators were told last. Nothing is written from then on in a history that lacks it.
    pub fn record_published(&self, head: Position) {
        self.seen().tell(head);
    }

    /// Says that a place is in the log, whether or not validators were told of it. The same holds for it.
    pub fn record_seen(&self, head: Position) {
        self.seen().see(head);
    }

    pub(crate) fn told(&self) -> Option<Position> {
        self.seen().told()
    }

    /// The newest place that this process knows to be in the log.
    pub fn newest_seen(&self) -> Option<Position> {
        self.seen().newest()
    }

    /// The place that the log was seen to have at the revision of `head`, and of which nobody was told yet, if it is another.
    pub fn conflicting_position(&self, head: &Position) -> Option<Position> {
        self.seen().otherwise(head)
    }

    /// What this process knows to be in the log.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whole between any two statements.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self) -> Connection {
        Connection { watch: self.watch.clone(), ..self.way(self.connections().writer) }
    }

    pub(crate) fn reader(&self) -> Connection {
        self.way(self.connections().reader)
    }

    pub(crate) fn pulse(&self) -> Connection {
        Connection { watch: self.watch.clone(), ..self.way(self.connections().pulse) }
    }

    fn way(&self, direct: DatabaseConnection) -> Connection {
        Connection { direct, carrier: self.carrier.clone(), watch: None }
    }

    /// One transaction, so that a start that is cut short leaves nothing half made.
    async fn migrate(&self) -> Result<(), DbErr> {
        let transaction = begin(&self.writer()).await?;
        let tx = &**transaction.direct()?;
        if !self.is_sqlite() {
            // Admins that start at once take turns.
            tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
        }
        let applied = Migrator::get_migration_models(tx).await?;
        let pending = |name: &str| applied.iter().all(|migration| migration.version != name);
        // Migrator::up refuses migrations that it does not know. Those of a newer version leave a schema that this one
        // runs on, as long as they are additions to its own.
        if Migrator::migrations().iter().any(|migration| pending(migration.name())) {
            Migrator::up(tx, None).await?;
        }
        if pending(SIGNED_SINCE) {
            sign_head(tx, &self.chain_key).await?;
        }
        transaction.commit().await
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.writer().get_database_backend() == DatabaseBackend::Sqlite
    }

    /// Closes every connection. SQLite folds its write-ahead log into the file.
    pub async fn close(self) {
        let Connections { writer, reader, pulse } = self.connections();
        let close = async {
            // A failure to close cleanly loses nothing: the log is replayed at the next start.
            let _ = pulse.close().await;
            let _ = reader.close().await;
            let _ = writer.close().await;
        };
        // Nor is a server worth waiting for that does not answer any more.
        let _ = tokio::time::timeout(CLOSING, close).await;
    }
}

impl Connections {
    /// Connects once, to find out whether that works.
    pub(crate) async fn check(&self) -> Result<(), DbErr> {
        self.writer.ping().await
    }

    /// To a server; made when they are needed.
    pub(crate) async fn to(options: &ConnectOptions) -> Result<Self, DbErr> {
        let pool = |connections| {
            let mut options = options.clone();
            options.max_connections(connections).connect_lazy(true);
            options
        };
        let [writer, reader, pulse] = POOLS.map(pool);
        let (writer, reader) = (Database::connect(writer).await?, Database::connect(reader).await?);
        Ok(Self { writer, reader, pulse: Database::connect(pulse).await? })
    }
}

/// One connection, so that writers queue for it and not on a busy database.
fn writer_options(path: &Path, watch: &Arc<WriterWatch>) -> ConnectOptions {
    let mut options = sqlite_options(path, 1);
    let watch = Arc::clone(watch);
    options.map_sqlx_sqlite_pool_opts(move |pool| watch.over(pool));
    options
}

/// How to connect to a PostgreSQL server.
pub(crate) fn postgres_options(url: &str) -> Result<ConnectOptions, OpenError> {
    // sea-orm would quote a URL that it cannot parse, password and all; sqlx says what is wrong with it.
    url.parse::<PgConnectOptions>()?;
    let mut options = ConnectOptions::new(url);
    options.acquire_timeout(Duration::from_secs(5)).sqlx_logging(false);
    options.map_sqlx_postgres_pool_opts(|pool| {
        outside_transactions(pool)
            .after_connect(|connection, _| Box::pin(async { connection.execute(SESSION).await.map(drop) }))
    });
    Ok(options)
}

fn sqlite_options(path: &Path, connections: u32) -> ConnectOptions {
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
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
