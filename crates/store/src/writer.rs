//! Keeps a connection out of use whose state its driver may not know.
//!
//! SQLite rolls a transaction back by itself when a write fails for want of space or memory, or by an I/O error
//! (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>). The ROLLBACK that the driver
//! then sends fails, and the driver (sqlx 0.9) goes on counting the transaction as open. The next transaction on that
//! connection would begin as a savepoint and end by a RELEASE, which commits nothing: every change would be acknowledged
//! and none would be durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sea_orm::sqlx;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Sqlite};

/// What is known of the one connection by which SQLite is written to.
#[derive(Debug, Default)]
pub(crate) struct WriterWatch {
    failed: AtomicBool,
    commits: AtomicU64,
}

impl WriterWatch {
    /// A statement or a commit has failed on the connection: it is closed and replaced, not used again.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// How many transactions SQLite has committed, by its own count.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Puts the pool of SQLite's writer under this watch. The pool has one connection at a time.
    pub(crate) fn over(self: &Arc<Self>, pool: PoolOptions<Sqlite>) -> PoolOptions<Sqlite> {
        let (connected, acquired, released) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        pool.after_connect(move |connection, _| {
            let watch = Arc::clone(&connected);
            Box::pin(async move {
                watch.failed.store(false, Ordering::Release);
                connection.lock_handle().await?.set_commit_hook(move || {
                    watch.commits.fetch_add(1, Ordering::AcqRel);
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
            let watch = Arc::clone(&released);
            Box::pin(async move { Ok(!watch.failed.load(Ordering::Acquire) && is_outside(connection).await) })
        })
    }
}

/// Has connections closed that are still in a transaction when they come back to the pool.
pub(crate) fn outside_transactions<DB: Database>(pool: PoolOptions<DB>) -> PoolOptions<DB> {
    pool.after_release(|connection, _| Box::pin(async move { Ok(is_outside(connection).await) })).before_acquire(
        |connection, _| {
            let outside = !connection.is_in_transaction();
            Box::pin(async move { Ok(outside) })
        },
    )
}

/// Returns `true` if no transaction is open on the connection. A rollback that was only queued is done first.
async fn is_outside<C: Connection>(connection: &mut C) -> bool {
    connection.ping().await.is_ok() && !connection.is_in_transaction()
}
