//! Seams for deterministic simulations, behind the feature `simulation`, which no shipped binary enables.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseTransaction, DbErr};

use crate::connection::direct;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The kind of a call to the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// A statement outside a transaction.
    Statement,
    /// The begin of a transaction.
    Begin,
    /// A statement within a transaction.
    StatementInTransaction,
    /// The commit of a transaction.
    Commit,
}

/// A simulated network between a process and its database. It decides how long each way takes, what is lost, and which
/// thread executes the calls.
///
/// Between the operations of a transaction the caller waits for nothing but the network.
pub trait Network: Debug + Send + Sync {
    /// Carries the request of an operation. An error means that it did not reach the database and was not executed.
    fn request(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>>;

    /// Executes a call at the database. Returns when it is complete.
    fn execute(&self, call: BoxFuture<'static, ()>);

    /// Carries the response of an operation. An error means that the response was lost.
    fn response(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>>;
}

/// How calls reach the database: directly, or through a simulated network.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// As in a shipped binary.
    Direct,
    /// Through a simulated network.
    Network(Arc<dyn Network>),
}

impl Route {
    pub(crate) const DIRECT: Self = Self::Direct;

    pub(crate) async fn statement<T, F>(&self, call: F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        self.call(Operation::Statement, call).await
    }

    pub(crate) async fn begin<F>(&self, call: F) -> Result<DatabaseTransaction, DbErr>
    where
        F: Future<Output = Result<DatabaseTransaction, DbErr>> + Send + 'static,
    {
        match self {
            Self::Direct => direct::begin(call).await,
            Self::Network(_) => self.call(Operation::Begin, call).await,
        }
    }

    pub(crate) async fn statement_in_transaction<T, F>(&self, call: F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        self.call(Operation::StatementInTransaction, call).await
    }

    pub(crate) async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), DbErr> {
        self.call(Operation::Commit, transaction.commit()).await
    }

    /// Drops a transaction, which rolls it back.
    pub(crate) fn roll_back(&self, transaction: Arc<DatabaseTransaction>) {
        match self {
            Self::Direct => drop(transaction),
            Self::Network(network) => network.execute(Box::pin(async move { drop(transaction) })),
        }
    }

    async fn call<T, F>(&self, operation: Operation, call: F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let Self::Network(network) = self else { return call.await };
        network.request(operation).await.map_err(DbErr::Custom)?;
        let result = Arc::new(Mutex::new(None));
        let put = Arc::clone(&result);
        network.execute(Box::pin(async move {
            let done = call.await;
            *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }));
        network.response(operation).await.map_err(DbErr::Custom)?;
        let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.unwrap_or_else(|| Err(DbErr::Custom("the simulated network did not execute the call".to_owned())))
    }
}
