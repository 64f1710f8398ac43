//! Keeps connections out of use whose transaction state the driver may have lost track of.
//!
//! SQLite rolls a transaction back by itself when a write fails for lack of space or memory, or with an I/O error
//! (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>). The ROLLBACK that the driver
//! then sends fails, and the driver (sqlx 0.9) continues to count the transaction as open. The next transaction on that
//! connection would begin as a savepoint and end with a RELEASE, which commits nothing: every change would be acknowledged
//! and none would be durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sea_orm::sqlx;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Sqlite};

/// State of the one connection that writes to SQLite.
#[derive(Debug, Default)]
pub(crate) struct WriterHealth {
    failed: AtomicBool,
    commits: AtomicU64,
}

impl WriterHealth {
    /// Records that a statement or a commit failed on the connection. The pool closes and replaces it instead of using it
    /// again.
    pub(crate) fn record_failure(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// The number of transactions that SQLite itself has counted as committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Installs the checks on the pool of the writer, which has one connection at a time.
    pub(crate) fn guard(self: &Arc<Self>, pool: PoolOptions<Sqlite>) -> PoolOptions<Sqlite> {
        let (connected, acquired, released) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        pool.after_connect(move |connection, _| {
            let health = Arc::clone(&connected);
            Box::pin(async move {
                health.failed.store(false, Ordering::Release);
                connection.lock_handle().await?.set_commit_hook(move || {
                    health.commits.fetch_add(1, Ordering::AcqRel);
                    true
                });
                Ok(())
            })
        })
        .before_acquire(move |connection, _| {
            let sound = !acquired.failed.load(Ordering::Acquire) && !connection.is_in_transaction();
            Box::pin(async move { Ok(sound) })
        })
        .after_release(move |connection, _| {
            let health = Arc::clone(&released);
            Box::pin(async move { Ok(!health.failed.load(Ordering::Acquire) && is_outside(connection).await) })
        })
    }
}

/// Closes connections that are still in a transaction when they return to the pool.
pub(crate) fn discard_open_transactions<DB: Database>(pool: PoolOptions<DB>) -> PoolOptions<DB> {
    pool.after_release(|connection, _| Box::pin(async move { Ok(is_outside(connection).await) })).before_acquire(
        |connection, _| {
            let outside = !connection.is_in_transaction();
            Box::pin(async move { Ok(outside) })
        },
    )
}

/// Returns `true` if no transaction is open on the connection. Runs a queued rollback first.
async fn is_outside<C: Connection>(connection: &mut C) -> bool {
    connection.ping().await.is_ok() && !connection.is_in_transaction()
}
