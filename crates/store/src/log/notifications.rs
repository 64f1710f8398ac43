//! The signal that the log has grown: LISTEN and NOTIFY of PostgreSQL.
//!
//! It is an optimization. An admin that misses a notification finds the change by its next poll.

use std::sync::Arc;

use keyward_domain::Error;
use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, RuntimeErr};

use crate::connection::Transaction;
use crate::error::from_driver;
use crate::store::Store;

/// The PostgreSQL channel on which commits are announced.
const CHANNEL: &str = "keyward_change_log";

/// Announces that the log may have grown. Notifications may be lost or spurious.
#[derive(Debug)]
pub struct LogNotifications(Option<PgListener>);

impl Store {
    /// Listens for changes by other admins. Databases without such a signal never notify.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn notifications(&self) -> Result<LogNotifications, Error> {
        if !self.is_postgres() {
            return Ok(LogNotifications(None));
        }
        let heartbeats = self.heartbeats();
        let mut listener = PgListener::connect_with(heartbeats.postgres_pool()).await.map_err(unavailable)?;
        listener.listen(CHANNEL).await.map_err(unavailable)?;
        Ok(LogNotifications(Some(listener)))
    }
}

impl LogNotifications {
    /// Waits for the next notification. Cancel safe.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: call [`Store::notifications`] again.
    pub async fn next(&mut self) -> Result<(), Error> {
        let Some(listener) = &mut self.0 else { return std::future::pending().await };
        // `None` in place of a notification means that the connection was replaced. Notifications may have been lost
        // meanwhile, so that counts as one.
        listener.try_recv().await.map(|_| ()).map_err(unavailable)
    }
}

/// Notifies every listening admin when the transaction commits.
pub(crate) async fn notify(tx: &Transaction) -> Result<(), DbErr> {
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
    }
    Ok(())
}

fn unavailable(error: sea_orm::sqlx::Error) -> Error {
    from_driver(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))
}
