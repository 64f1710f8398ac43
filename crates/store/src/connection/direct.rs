//! Calls that go straight to the driver: the only way in a shipped binary.

use sea_orm::{DatabaseTransaction, DbErr};

/// Begins a transaction in a task of its own, which rolls it back if the caller is gone by then. sqlx (0.9) registers a
/// PostgreSQL transaction only when BEGIN is answered: a caller that is dropped just before would leave an open transaction in
/// the pool.
pub(crate) async fn begin<F>(begin: F) -> Result<DatabaseTransaction, DbErr>
where
    F: Future<Output = Result<DatabaseTransaction, DbErr>> + Send + 'static,
{
    let begun = tokio::spawn(begin).await;
    begun.unwrap_or_else(|error| Err(DbErr::Custom(format!("cannot begin a transaction: {error}"))))
}

/// How calls reach the database: directly.
#[cfg(not(feature = "simulation"))]
#[derive(Clone, Debug)]
pub(crate) struct Route;

#[cfg(not(feature = "simulation"))]
impl Route {
    pub(crate) const DIRECT: Self = Self;

    pub(crate) async fn statement<T>(&self, call: impl Future<Output = Result<T, DbErr>> + Send) -> Result<T, DbErr> {
        call.await
    }

    pub(crate) async fn begin<F>(&self, call: F) -> Result<DatabaseTransaction, DbErr>
    where
        F: Future<Output = Result<DatabaseTransaction, DbErr>> + Send + 'static,
    {
        begin(call).await
    }

    pub(crate) async fn statement_in_transaction<T>(
        &self,
        call: impl Future<Output = Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        call.await
    }

    pub(crate) async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), DbErr> {
        transaction.commit().await
    }

    pub(crate) fn roll_back(&self, transaction: std::sync::Arc<DatabaseTransaction>) {
        drop(transaction);
    }
}
