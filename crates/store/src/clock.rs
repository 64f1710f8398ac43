//! The database's wall clock: the one clock that all admins share.

use std::time::{SystemTime, UNIX_EPOCH};

use keyward_domain::{Error, Timestamp};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use crate::error::{TxError, corrupt};
use crate::store::Store;

impl Store {
    /// The database's wall clock.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(now(&self.reader()).await?)
    }
}

/// The database's wall clock, with microseconds. In PostgreSQL it advances within a transaction.
pub(crate) async fn now(db: &impl ConnectionTrait) -> Result<Timestamp, TxError> {
    let backend = db.get_database_backend();
    if backend == DatabaseBackend::Sqlite {
        // An embedded database has the clock of this process.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(corrupt)?;
        return Ok(Timestamp::default().plus(since));
    }
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    let micros = row.ok_or_else(|| corrupt("no time"))?.try_get::<i64>("", "now")?;
    Ok(Timestamp::from_micros(micros))
}
