//! The way to the database: sea-orm's, or by a carrier of whoever simulates one.

pub(crate) mod pool_guard;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult,
    IsolationLevel, QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, sqlx,
};
use sea_orm_migration::async_trait::async_trait;

use crate::connection::pool_guard::WriterHealth;

/// Something to do that may take a while.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a call asks of the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// One statement, on its own.
    Single,
    /// The beginning of a transaction.
    Begin,
    /// One statement of a transaction.
    Within,
    /// The end of a transaction that keeps what it did.
    Commit,
}

/// Who takes every call to the database and brings the answer back, for simulations: they decide how long the way is,
/// what gets lost on it, and in which thread the database works.
///
/// Between the steps of a transaction its caller waits for nothing else.
pub trait Carrier: std::fmt::Debug + Send + Sync {
    /// The way to the database. An error: it was not reached, and nothing is done.
    fn there(&self, step: Step) -> Work<'_, Result<(), String>>;

    /// Does what is to be done, and returns when it is done.
    fn run(&self, work: Work<'static, ()>);

    /// The way back. An error: the answer is lost.
    fn back(&self, step: Step) -> Work<'_, Result<(), String>>;
}

/// A way to the database.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    direct: DatabaseConnection,
    carrier: Option<Arc<dyn Carrier>>,
    /// SQLite's writer: what is known of its one connection.
    health: Option<Arc<WriterHealth>>,
}

/// A transaction. Dropped before its commit, it is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Taken by the commit.
    direct: Option<Arc<DatabaseTransaction>>,
    carrier: Option<Arc<dyn Carrier>>,
    health: Option<Arc<WriterHealth>>,
    /// Set when a statement fails. The transaction takes no further statement and no commit from then on: SQLite may have
    /// rolled it back, so that what follows would be committed statement by statement; and PostgreSQL answers the COMMIT
    /// of a failed transaction with a rollback and no error.
    failed: AtomicBool,
}

/// Has a step taken by the carrier.
async fn carried<T: Send + 'static>(
    carrier: &Arc<dyn Carrier>,
    step: Step,
    work: impl Future<Output = Result<T, DbErr>> + Send + 'static,
) -> Result<T, DbErr> {
    carrier.there(step).await.map_err(DbErr::Custom)?;
    let answer = Arc::new(Mutex::new(None));
    let put = Arc::clone(&answer);
    carrier.run(Box::pin(async move {
        let done = work.await;
        *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    }));
    carrier.back(step).await.map_err(DbErr::Custom)?;
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.unwrap_or_else(|| Err(DbErr::Custom("the carrier did not do its work".to_owned())))
}

// === impl Connection ===

impl Connection {
    pub(crate) const fn new(
        direct: DatabaseConnection,
        health: Option<Arc<WriterHealth>>,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Self {
        Self { direct, carrier, health }
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
        let begin = async move { direct.begin_with_options(options).await };
        let direct = match &self.carrier {
            Some(carrier) => carried(carrier, Step::Begin, begin).await?,
            // In a task of its own, which ends what it began when nobody is left to take it. sqlx (0.9) takes note of a
            // PostgreSQL transaction only when BEGIN is answered: a caller dropped just before that would leave it open in
            // the pool.
            None => {
                let begun = tokio::spawn(begin).await;
                begun.unwrap_or_else(|error| Err(DbErr::Custom(format!("cannot begin a transaction: {error}"))))?
            }
        };
        Ok(Transaction {
            direct: Some(Arc::new(direct)),
            carrier: self.carrier.clone(),
            health: self.health.clone(),
            failed: AtomicBool::new(false),
        })
    }

    /// Runs one statement on its own.
    async fn run<T, W>(&self, statement: impl FnOnce(DatabaseConnection) -> W + Send) -> Result<T, DbErr>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let work = statement(self.direct.clone());
        let done = match &self.carrier {
            Some(carrier) => carried(carrier, Step::Single, work).await,
            None => work.await,
        };
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
    /// Commits. `Ok` means that the database has committed: with SQLite its own count of commits is asked too, because a
    /// driver that has lost track of its transactions sends a RELEASE instead of a COMMIT, and reports success.
    pub(crate) async fn commit(mut self) -> Result<(), DbErr> {
        self.direct()?;
        // Only ever shared with a step, and every step is over.
        let direct = self.direct.take().and_then(Arc::into_inner);
        let Some(direct) = direct else { return Err(DbErr::Custom("the transaction is in use".to_owned())) };
        // The writer has one connection, and this transaction holds it: no other commit can be counted in between.
        let counted = self.health.as_ref().map(|health| health.commits());
        let committed = match &self.carrier {
            Some(carrier) => carried(carrier, Step::Commit, direct.commit()).await,
            None => direct.commit().await,
        };
        let committed = committed.and_then(|()| match &self.health {
            Some(health) if counted == Some(health.commits()) => {
                Err(DbErr::Custom("SQLite answered COMMIT and committed nothing".to_owned()))
            }
            _ => Ok(()),
        });
        self.noted(committed)
    }

    /// The transaction as the driver has it.
    ///
    /// # Errors
    /// It is over, or a statement of it has failed.
    pub(crate) fn direct(&self) -> Result<&Arc<DatabaseTransaction>, DbErr> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(DbErr::Custom("a statement of this transaction has failed".to_owned()));
        }
        self.direct.as_ref().ok_or_else(|| DbErr::Custom("the transaction is over".to_owned()))
    }

    /// Takes note of a failure, so that neither this transaction nor SQLite's connection is used again.
    fn noted<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
            if let Some(health) = &self.health {
                health.record_failure();
            }
        }
        result
    }

    /// Runs one statement of the transaction.
    async fn run<T, W>(&self, statement: impl FnOnce(Arc<DatabaseTransaction>) -> W + Send) -> Result<T, DbErr>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let work = statement(Arc::clone(self.direct()?));
        let done = match &self.carrier {
            Some(carrier) => carried(carrier, Step::Within, work).await,
            None => work.await,
        };
        self.noted(done)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Rolled back where it was begun.
        if let (Some(carrier), Some(direct)) = (&self.carrier, self.direct.take()) {
            carrier.run(Box::pin(async move { drop(direct) }));
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
