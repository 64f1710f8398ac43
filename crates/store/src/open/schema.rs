//! Brings the schema up to date. A schema that is up to date is only looked at, so that a role without the right to create
//! tables can start an admin.

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use crate::error::is_permission_denied;
use crate::log::head::sign_unsigned_head;
use crate::migration::{ADDS_HEAD_MAC, Migrator};
use crate::open::error::OpenError;
use crate::store::Store;

/// The PostgreSQL advisory lock of the admin that migrates: "keyward" in ASCII.
const MIGRATION_LOCK: i64 = 0x006b_6579_7761_7264;

impl Store {
    /// Applies pending migrations in one transaction, so that an interrupted start leaves nothing half made.
    ///
    /// # Errors
    /// [`OpenError::MayNotMigrate`] if a migration is pending and the database's role may not change the schema.
    pub(crate) async fn migrate(&self) -> Result<(), OpenError> {
        let reader = self.reader();
        let Some(pending) = first_pending(&reader).await? else { return Ok(()) };
        self.apply_pending().await.map_err(|error| {
            if is_permission_denied(&error) { OpenError::MayNotMigrate { pending } } else { error.into() }
        })
    }

    /// Checks that no migration is pending.
    ///
    /// # Errors
    /// [`OpenError::OldSchema`].
    pub(crate) async fn check_schema(&self) -> Result<(), OpenError> {
        match first_pending(&self.reader()).await? {
            None => Ok(()),
            Some(pending) => Err(OpenError::OldSchema { at: self.database_at(), pending }),
        }
    }

    async fn apply_pending(&self) -> Result<(), DbErr> {
        let transaction = self.writer().begin_write().await?;
        let tx = &**transaction.direct()?;
        if self.is_postgres() {
            // Admins that start at the same time take turns.
            tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
        }
        let applied = applied(tx).await?;
        let is_pending = |name: &str| applied.iter().all(|version| version != name);
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

/// The name of the first migration that the database lacks.
async fn first_pending(db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    let applied = applied(db).await?;
    let names = Migrator::migrations().into_iter().map(|migration| migration.name().to_owned());
    Ok(names.into_iter().find(|name| !applied.contains(name)))
}

/// The names of the migrations that the database has. Creates nothing: `Migrator` itself would begin with the creation of its
/// table.
async fn applied(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let backend = db.get_database_backend();
    let exists = match backend {
        DatabaseBackend::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
        _ => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
    };
    if db.query_one_raw(Statement::from_string(backend, exists)).await?.is_none() {
        return Ok(Vec::new());
    }
    let rows = db.query_all_raw(Statement::from_string(backend, "SELECT version FROM seaql_migrations")).await?;
    rows.iter().map(|row| row.try_get("", "version")).collect()
}
