//! Opening a database: locks, connections, checks at start, and migrations.

pub(crate) mod error;
pub(crate) mod exposure;
#[cfg(feature = "simulation")]
mod memory;
mod postgres;
pub(crate) mod renew;
mod sqlite;

use std::path::Path;

use keyward_token::DigestKey;
use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::MigratorTrait;

use crate::log::head::sign_unsigned_head;
use crate::migration::{ADDS_HEAD_MAC, Migrator};
use crate::open::error::OpenError;
use crate::open::exposure::is_postgres;
use crate::store::Store;

/// The PostgreSQL advisory lock of the admin that migrates: "keyward" in ASCII.
const MIGRATION_LOCK: i64 = 0x006b_6579_7761_7264;

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// `url` is `sqlite:PATH` (created if missing; WAL, synchronous FULL) or `postgres://…`. `chain_key` keys the hash chain
    /// of the change log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, chain_key: DigestKey) -> Result<Self, OpenError> {
        let store = if let Some(path) = url.strip_prefix("sqlite:") {
            sqlite::open(Path::new(path), chain_key).await?
        } else if is_postgres(url) {
            Box::pin(postgres::open(url, chain_key)).await?
        } else {
            return Err(OpenError::Scheme);
        };
        store.migrate().await?;
        Ok(store)
    }

    /// Applies pending migrations in one transaction, so that an interrupted start leaves nothing half made.
    async fn migrate(&self) -> Result<(), DbErr> {
        let transaction = self.writer().begin_write().await?;
        let tx = &**transaction.direct()?;
        if self.is_postgres() {
            // Admins that start at the same time take turns.
            tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
        }
        let applied = Migrator::get_migration_models(tx).await?;
        let is_pending = |name: &str| applied.iter().all(|migration| migration.version != name);
        // `Migrator::up` fails if the database has migrations that this version does not have. A newer version makes those,
        // and this version runs on their result as long as they only add to the schema.
        if Migrator::migrations().iter().any(|migration| is_pending(migration.name())) {
            Migrator::up(tx, None).await?;
        }
        if is_pending(ADDS_HEAD_MAC) {
            sign_unsigned_head(tx, &self.chain_key).await?;
        }
        transaction.commit().await
    }
}
