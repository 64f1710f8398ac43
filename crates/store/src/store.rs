//! [`Store`]: the handle on one database, with its connection pools and the positions that this process has seen.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use keyward_domain::{Error, Position};
use keyward_protocol::log::SeenPositions;
use keyward_token::{DigestKey, context};

use crate::connection::pool_guard::WriterHealth;
use crate::connection::{Connection, Route};
use crate::error::from_driver;
use crate::open::error::DatabaseAt;
use crate::pools::{Pools, ServerOptions};

/// The longest time that [`Store::close`] takes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Keyward's durable state. Cheap to clone; clones share the pools and the positions seen.
#[derive(Clone, Debug)]
pub struct Store {
    pools: Arc<RwLock<Pools>>,
    backend: Backend,
    route: Route,
    pub(crate) chain_key: Arc<DigestKey>,
    /// The key of the MACs of rows.
    pub(crate) row_key: Arc<DigestKey>,
    seen: Arc<Mutex<SeenPositions>>,
}

/// The database behind a [`Store`].
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// A SQLite file that this process alone has open.
    Sqlite {
        /// State of the connection that writes.
        writer: Arc<WriterHealth>,
        /// The file.
        path: Arc<Path>,
        /// The lock on the file, held until the last clone of the store is dropped.
        _lock: Arc<File>,
    },
    /// A copy of a SQLite file, which is only read.
    SqliteCopy(Arc<Path>),
    /// A PostgreSQL server, which other admins may use at the same time.
    Postgres(Arc<ServerOptions>),
    /// SQLite in memory, shared by the simulated admins of one process.
    #[cfg(feature = "simulation")]
    Memory,
}

impl Store {
    pub(crate) fn new(pools: Pools, backend: Backend, chain_key: DigestKey) -> Self {
        Self {
            pools: Arc::new(RwLock::new(pools)),
            backend,
            route: Route::DIRECT,
            row_key: Arc::new(chain_key.derive(context::ROW_MACS)),
            chain_key: Arc::new(chain_key),
            seen: Arc::default(),
        }
    }

    /// A handle on the same database for another simulated process: calls go through `network`, and no position has been
    /// seen yet.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn over_network(&self, network: Arc<dyn crate::simulation::Network>) -> Self {
        Self { route: Route::Network(network), seen: Arc::default(), ..self.clone() }
    }

    /// Returns `true` if other admins may use the same database at the same time.
    pub const fn is_shared(&self) -> bool {
        !matches!(self.backend, Backend::Sqlite { .. } | Backend::SqliteCopy(_))
    }

    /// The database, for an error.
    pub(crate) fn database_at(&self) -> DatabaseAt {
        match &self.backend {
            Backend::Sqlite { path, .. } | Backend::SqliteCopy(path) => DatabaseAt::File(path.to_path_buf()),
            Backend::Postgres(_) => DatabaseAt::Server,
            #[cfg(feature = "simulation")]
            Backend::Memory => DatabaseAt::File(":memory:".into()),
        }
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// How to connect to the PostgreSQL server; `None` for SQLite.
    pub(crate) const fn server(&self) -> Option<&Arc<ServerOptions>> {
        match &self.backend {
            Backend::Postgres(server) => Some(server),
            _ => None,
        }
    }

    /// Abandons every connection and opens new ones, for a PostgreSQL server that has stopped answering. A connection that
    /// the network cut silently looks open until TCP gives up on it after about 15 minutes, and occupies its slot in the
    /// pool until then. Does nothing for SQLite.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn reconnect(&self) -> Result<(), Error> {
        let Some(server) = self.server() else { return Ok(()) };
        self.replace_pools(Pools::connect_lazy(&server.get()).await.map_err(from_driver)?);
        Ok(())
    }

    /// Uses these pools from now on. Calls in progress finish on the connections that they hold.
    pub(crate) fn replace_pools(&self, pools: Pools) {
        *self.pools.write().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    fn pools(&self) -> Pools {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection for changes.
    pub(crate) fn writer(&self) -> Connection {
        Connection::new(self.pools().writer, self.writer_health(), self.route.clone())
    }

    /// The connection for queries.
    pub(crate) fn reader(&self) -> Connection {
        Connection::new(self.pools().reader, None, self.route.clone())
    }

    /// The connection for heartbeats.
    pub(crate) fn heartbeats(&self) -> Connection {
        Connection::new(self.pools().heartbeats, self.writer_health(), self.route.clone())
    }

    fn writer_health(&self) -> Option<Arc<WriterHealth>> {
        match &self.backend {
            Backend::Sqlite { writer, .. } => Some(Arc::clone(writer)),
            _ => None,
        }
    }

    /// Records that validators know every change up to `position`. From now on, nothing is written to a log that lacks it.
    pub fn record_published(&self, position: Position) {
        self.seen().publish(position);
    }

    /// Records that `position` is in the log, published or not. From now on, nothing is written to a log that lacks it.
    pub fn record_seen(&self, position: Position) {
        self.seen().record(position);
    }

    /// The newest position that this process has seen in the log.
    pub fn newest_seen(&self) -> Option<Position> {
        self.seen().newest()
    }

    /// The unpublished position that was seen at the revision of `position`, if its chain value differs.
    pub fn conflicting_position(&self, position: &Position) -> Option<Position> {
        self.seen().conflict(position)
    }

    /// The positions that this process has seen in the log.
    pub(crate) fn seen(&self) -> MutexGuard<'_, SeenPositions> {
        // Every statement leaves the value consistent, so a panic elsewhere cannot have left half a change.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes every connection, in 3 seconds at most. SQLite folds its write-ahead log into the database file.
    pub async fn close(self) {
        let Pools { writer, reader, heartbeats } = self.pools();
        let close = async {
            // A close that fails loses nothing: SQLite replays the write-ahead log at the next start.
            let _ = heartbeats.close().await;
            let _ = reader.close().await;
            let _ = writer.close().await;
        };
        // A server that has stopped answering must not delay the end of the process.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }
}
