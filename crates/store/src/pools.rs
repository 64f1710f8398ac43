//! The connection pools of a [`crate::Store`].

use std::sync::{PoisonError, RwLock};

use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

/// Sizes of the pools over PostgreSQL: writers, readers, heartbeats. Of the connections for heartbeats, one sends heartbeats
/// and one listens for notifications; the third is used while one of these is replaced.
const SERVER_POOLS: [u32; 3] = [8, 8, 3];

/// The most connections that one admin opens to PostgreSQL.
pub(crate) const MAX_CONNECTIONS: u32 = SERVER_POOLS[0] + SERVER_POOLS[1] + SERVER_POOLS[2];

/// Connections to one database, apart by purpose.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    /// For changes. SQLite has one connection here, so that writers queue in the pool instead of on a busy database.
    pub(crate) writer: DatabaseConnection,
    /// For queries. Apart from the writers, because writers wait for each other at the head of the log and readers must not.
    pub(crate) reader: DatabaseConnection,
    /// For heartbeats, which keep leases alive and must not wait for long reads or queued writers. SQLite uses the writer.
    pub(crate) heartbeats: DatabaseConnection,
}

impl Pools {
    /// Pools over a PostgreSQL server. Connections are opened when they are first used.
    pub(crate) async fn connect_lazy(options: &ConnectOptions) -> Result<Self, DbErr> {
        let sized = |connections| {
            let mut options = options.clone();
            options.max_connections(connections).connect_lazy(true);
            options
        };
        let [writer, reader, heartbeats] = SERVER_POOLS.map(sized);
        Ok(Self {
            writer: Database::connect(writer).await?,
            reader: Database::connect(reader).await?,
            heartbeats: Database::connect(heartbeats).await?,
        })
    }

    /// Opens a connection, to find out if the server accepts one.
    pub(crate) async fn check(&self) -> Result<(), DbErr> {
        self.writer.ping().await
    }
}

/// How to connect to a PostgreSQL server. The options hold a password, so `Debug` shows nothing.
pub(crate) struct ServerOptions(RwLock<ConnectOptions>);

impl ServerOptions {
    pub(crate) const fn new(options: ConnectOptions) -> Self {
        Self(RwLock::new(options))
    }

    pub(crate) fn get(&self) -> ConnectOptions {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, options: ConnectOptions) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = options;
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerOptions(…)")
    }
}
