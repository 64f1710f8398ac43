//! The three databases. Each is created empty for one test and deleted after it.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward_domain::AdminLife;
use keyward_store::{OpenError, Store};
use keyward_tests::postgres::Postgres;
use keyward_token::DigestKey;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::{create_project, secret};

/// The key of the hash chain.
pub(super) const CHAIN_KEY: [u8; 32] = [42; 32];

/// The fingerprint of the keyring that [`Database::initialized`] uses.
pub(super) const FINGERPRINT: &str = "0123456789abcdef";

/// One server for all tests. It stops with the process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// An empty database.
pub(super) enum Database {
    Sqlite {
        directory: TempDir,
    },
    Postgres {
        url: String,
    },
    /// Each open returns a clone of the one handle, because a database in memory cannot be opened twice.
    Memory {
        only: OnceCell<Store>,
    },
}

/// Makes a function that creates an empty database on the server of a version of PostgreSQL. All tests share the server.
#[cfg(feature = "proof")]
macro_rules! versions {
    ($($name:ident: $major:literal,)+) => {
        $(
            pub(super) fn $name() -> Self {
                static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start_version($major).unwrap());
                Self::on(&SERVER)
            }
        )+
    };
}

impl Database {
    #[cfg(feature = "proof")]
    versions! {
        postgres_14: 14,
        postgres_15: 15,
        postgres_16: 16,
        postgres_17: 17,
        postgres_18: 18,
    }

    pub(super) fn sqlite() -> Self {
        Self::Sqlite { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn postgres() -> Self {
        Self::on(&SERVER)
    }

    /// A database on this server.
    fn on(server: &Postgres) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("store_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::Postgres { url: server.database(&name).unwrap() }
    }

    pub(super) fn memory() -> Self {
        Self::Memory { only: OnceCell::new() }
    }

    /// The name in reports.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
            Self::Memory { .. } => "memory",
        }
    }

    /// The path of the SQLite file.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite { directory } => directory.path().join("keyward.db"),
            Self::Postgres { .. } | Self::Memory { .. } => panic!("{} has no database file", self.name()),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite { .. } => format!("sqlite:{}", self.path().display()),
            Self::Postgres { url } => url.clone(),
            Self::Memory { .. } => panic!("a database in memory has no URL"),
        }
    }

    pub(super) async fn try_open(&self) -> Result<Store, OpenError> {
        match self {
            Self::Sqlite { .. } | Self::Postgres { .. } => open(&self.url()).await,
            Self::Memory { only } => only.get_or_try_init(in_memory).await.cloned(),
        }
    }

    /// The store over this database. Creates the schema if it is missing.
    pub(super) async fn open(&self) -> Store {
        for _ in 0..200 {
            match self.try_open().await {
                // Between fork and exec, a program that another test starts shares the files of this process and their locks.
                Err(OpenError::InUse(_)) => sleep(Duration::from_millis(10)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the database stays in use");
    }

    /// The store over this database with root, whose credential is named `root`.
    pub(super) async fn initialized(&self) -> Store {
        let store = self.open().await;
        store.initialize(FINGERPRINT, &secret("root")).await.unwrap();
        store
    }

    /// The store over this database with root and the project `6666`.
    pub(super) async fn started(&self) -> Store {
        let store = self.initialized().await;
        create_project(&store, "6666").await;
        store
    }

    /// Two admins over this database: two handles on PostgreSQL, and clones of the one handle on the other databases.
    pub(super) async fn admins(&self, first: &Store) -> [Store; 2] {
        let second = match self {
            Self::Postgres { .. } => self.open().await,
            Self::Sqlite { .. } | Self::Memory { .. } => first.clone(),
        };
        [first.clone(), second]
    }

    /// A connection outside the store, for operations that its API rightly does not offer.
    pub(super) async fn plain(&self) -> Plain {
        match self {
            Self::Sqlite { .. } => Plain::Sqlite(SqliteConnection::connect(&self.url()).await.unwrap()),
            Self::Postgres { url } => Plain::Postgres(PgConnection::connect(url).await.unwrap()),
            Self::Memory { .. } => panic!("a database in memory has no connection outside the store"),
        }
    }

    /// Observes open transactions of the callers of `store`.
    pub(super) async fn watch(&self, store: &Store) -> Watch {
        match self {
            Self::Sqlite { .. } | Self::Postgres { .. } => Watch::Outside(self.plain().await),
            Self::Memory { .. } => Watch::Within(store.clone()),
        }
    }
}

pub(super) async fn open(url: &str) -> Result<Store, OpenError> {
    Store::open(url, DigestKey::new(1, CHAIN_KEY)).await
}

pub(super) async fn in_memory() -> Result<Store, OpenError> {
    Store::in_memory(DigestKey::new(1, CHAIN_KEY)).await
}

/// An observer of open transactions.
pub(super) enum Watch {
    Outside(Plain),
    /// In memory there is one connection, so the next transaction waits for the end of the one before.
    Within(Store),
}

impl Watch {
    /// Waits until every transaction has ended. A transaction that a caller left is rolled back soon, in the background.
    pub(super) async fn no_transaction_is_open(&mut self) {
        let settled = async {
            match self {
                Self::Outside(plain) => {
                    while plain.open_transactions().await > 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                Self::Within(store) => assert!(store.heartbeat(AdminLife::generate()).await.unwrap().is_none()),
            }
        };
        timeout(Duration::from_secs(3), settled).await.expect("a transaction stays open");
    }
}

/// A connection that speaks SQL.
pub(super) enum Plain {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Plain {
    pub(super) async fn try_run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => Ok(connection.execute(sqlx::raw_sql(sql)).await?.rows_affected()),
            Self::Postgres(connection) => Ok(connection.execute(sqlx::raw_sql(sql)).await?.rows_affected()),
        }
    }

    /// Runs statements. Returns the number of rows that they changed.
    pub(super) async fn run(&mut self, sql: &str) -> u64 {
        self.try_run(sql).await.unwrap()
    }

    /// The one number that a query returns.
    pub(super) async fn number(&mut self, sql: &str) -> i64 {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await.unwrap(),
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_one(connection).await.unwrap(),
        }
    }

    /// Begins a transaction that blocks every other writer until it ends.
    pub(super) async fn stop_writers(&mut self) {
        match self {
            Self::Sqlite(_) => self.run("BEGIN IMMEDIATE").await,
            Self::Postgres(_) => self.run("BEGIN; SELECT FROM rev_counter FOR UPDATE").await,
        };
    }

    /// The number of transactions that other connections have open. In SQLite, 1 if one of them writes.
    pub(super) async fn open_transactions(&mut self) -> i64 {
        match self {
            Self::Sqlite(_) => {
                self.run("PRAGMA busy_timeout = 0").await;
                i64::from(self.try_run("BEGIN IMMEDIATE; COMMIT").await.is_err())
            }
            Self::Postgres(_) => {
                let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                            AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
                self.number(open).await
            }
        }
    }
}
