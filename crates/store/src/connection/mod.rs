//! Connections and transactions, over those of sea-orm.
//!
//! Both guarantee what the driver does not: a transaction with a failed statement is never committed, and a commit that is
//! reported has happened.

mod direct;
pub(crate) mod pool_guard;
#[cfg(feature = "simulation")]
pub mod simulation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult,
    IsolationLevel, QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, sqlx,
};
use sea_orm_migration::async_trait::async_trait;

use crate::connection::pool_guard::WriterHealth;

#[cfg(not(feature = "simulation"))]
pub(crate) use direct::Route;
#[cfg(feature = "simulation")]
pub(crate) use simulation::Route;

/// A pool of connections to the database.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    direct: DatabaseConnection,
    route: Route,
    /// State of the one connection in SQLite's writing pool; `None` for other pools.
    health: Option<Arc<WriterHealth>>,
}

/// A transaction. Dropped before its commit, it is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// `None` once the commit has begun.
    direct: Option<Arc<DatabaseTransaction>>,
    route: Route,
    health: Option<Arc<WriterHealth>>,
    /// `true` once a statement has failed. The transaction then refuses further statements and the commit: SQLite may have
    /// rolled it back, so that further statements would be committed one by one; and PostgreSQL answers the COMMIT of a
    /// failed transaction with a rollback and no error.
    failed: AtomicBool,
}

// === impl Connection ===

impl Connection {
    pub(crate) const fn new(direct: DatabaseConnection, health: Option<Arc<WriterHealth>>, route: Route) -> Self {
        Self { direct, route, health }
    }

    /// The driver's pool of a PostgreSQL connection.
    pub(crate) fn postgres_pool(&self) -> &sqlx::PgPool {
        self.direct.get_postgres_connection_pool()
    }

    /// Begins a transaction that writes. In SQLite it is IMMEDIATE: a transaction that turns from reading to writing would
    /// fail with SQLITE_BUSY instead of waiting.
    pub(crate) async fn begin_write(&self) -> Result<Transaction, DbErr> {
        let sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        self.begin(TransactionOptions { sqlite_transaction_mode, ..Default::default() }).await
    }

    /// Begins a transaction that only reads, and sees one state of the database throughout.
    pub(crate) async fn begin_snapshot(&self) -> Result<Transaction, DbErr> {
        let options = match self.direct.get_database_backend() {
            // In WAL mode a reading transaction sees the state of its first read.
            DatabaseBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            },
        };
        self.begin(options).await
    }

    async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let direct = self.direct.clone();
        let begun = self.route.begin(async move { direct.begin_with_options(options).await }).await?;
        Ok(Transaction {
            direct: Some(Arc::new(begun)),
            route: self.route.clone(),
            health: self.health.clone(),
            failed: AtomicBool::new(false),
        })
    }

    /// Runs one statement outside a transaction.
    async fn run<T, F>(&self, statement: impl FnOnce(DatabaseConnection) -> F + Send) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let done = self.route.statement(statement(self.direct.clone())).await;
        if let (Err(_), Some(health)) = (&done, &self.health) {
            health.record_failure();
        }
        done
    }
}

#[async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.direct.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(|direct| async move { direct.execute_raw(statement).await }).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        self.run(|direct| async move { direct.execute_unprepared(&sql).await }).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(|direct| async move { direct.query_one_raw(statement).await }).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(|direct| async move { direct.query_all_raw(statement).await }).await
    }
}

// === impl Transaction ===

impl Transaction {
    /// Commits. `Ok` means that the database has committed. For SQLite that is confirmed by its own count of commits, because
    /// a driver that has lost track of its transactions sends a RELEASE in place of a COMMIT, and reports success.
    pub(crate) async fn commit(mut self) -> Result<(), DbErr> {
        self.direct()?;
        // Shared only with running statements, of which there is none at the commit.
        let direct = self.direct.take().and_then(Arc::into_inner);
        let Some(direct) = direct else { return Err(DbErr::Custom("the transaction is in use".to_owned())) };
        // No other commit is counted meanwhile: SQLite's writing pool has one connection, which this transaction holds.
        let before = self.health.as_ref().map(|health| health.commits());
        let committed = self.route.commit(direct).await;
        let committed = committed.and_then(|()| match &self.health {
            Some(health) if before == Some(health.commits()) => {
                Err(DbErr::Custom("SQLite answered COMMIT and committed nothing".to_owned()))
            }
            _ => Ok(()),
        });
        self.record(committed)
    }

    /// The driver's transaction.
    ///
    /// # Errors
    /// The transaction has ended, or one of its statements has failed.
    pub(crate) fn direct(&self) -> Result<&Arc<DatabaseTransaction>, DbErr> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(DbErr::Custom("a statement of this transaction has failed".to_owned()));
        }
        self.direct.as_ref().ok_or_else(|| DbErr::Custom("the transaction is over".to_owned()))
    }

    /// Records a failure, so that neither this transaction nor SQLite's connection is used again.
    fn record<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
            if let Some(health) = &self.health {
                health.record_failure();
            }
        }
        result
    }

    /// Runs one statement of the transaction.
    async fn run<T, F>(&self, statement: impl FnOnce(Arc<DatabaseTransaction>) -> F + Send) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let statement = statement(Arc::clone(self.direct()?));
        self.record(self.route.statement_in_transaction(statement).await)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(direct) = self.direct.take() {
            self.route.roll_back(direct);
        }
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.direct.as_ref().map_or(DatabaseBackend::Sqlite, |direct| direct.get_database_backend())
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(|direct| async move { direct.execute_raw(statement).await }).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        self.run(|direct| async move { direct.execute_unprepared(&sql).await }).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(|direct| async move { direct.query_one_raw(statement).await }).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(|direct| async move { direct.query_all_raw(statement).await }).await
    }
}
