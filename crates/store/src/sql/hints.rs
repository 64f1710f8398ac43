use keyward_domain::Error;
use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, RuntimeErr};

use crate::connect::Store;
use crate::connection::Transaction;
use crate::error::from_driver;

/// Where PostgreSQL says that the log has grown.
const CHANNEL: &str = "keyward_change_log";

/// Says that the log may have grown: sooner than a look every now and then would find out, and no more than that. LogNotifications
/// may be lost; nothing depends on them but speed.
#[derive(Debug)]
pub struct LogNotifications(Option<PgListener>);

impl Store {
    /// Listens for changes that others make. Databases that have no such signal never give a hint.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn notifications(&self) -> Result<LogNotifications, Error> {
        if self.writer().get_database_backend() != DatabaseBackend::Postgres {
            return Ok(LogNotifications(None));
        }
        let failed = |e| from_driver(&DbErr::Conn(RuntimeErr::SqlxError(std::sync::Arc::new(e))));
        let mut listener =
            PgListener::connect_with(self.pulse().direct.get_postgres_connection_pool()).await.map_err(failed)?;
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(LogNotifications(Some(listener)))
    }
}

impl LogNotifications {
    /// Waits for the next hint. Cancel safe.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: listen anew.
    pub async fn next(&mut self) -> Result<(), Error> {
        let Some(listener) = &mut self.0 else { return std::future::pending().await };
        // Nothing instead of a notification: the connection was lost and is there again, and what was said in between
        // nobody knows. That too is a reason to look.
        let said = listener.try_recv().await;
        said.map(|_| ()).map_err(|e| from_driver(&DbErr::Conn(RuntimeErr::SqlxError(std::sync::Arc::new(e)))))
    }
}

/// Tells everybody who listens, once the transaction commits.
pub(crate) async fn announce(tx: &Transaction) -> Result<(), DbErr> {
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
    }
    Ok(())
}
