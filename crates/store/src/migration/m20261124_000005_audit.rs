//! The change log by project and by actor, and a head that only the keyring can make.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{blob_null, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // In whose history the entry belongs; the entry says it too, and VerifyLog compares them.
        let mut column = string_null("project_id");
        manager.alter_table(Table::alter().table("change_log").add_column(&mut column).to_owned()).await?;
        // Keyed hash of the head; empty until the first change after this migration.
        let mut column = blob_null("mac");
        manager.alter_table(Table::alter().table("rev_counter").add_column(&mut column).to_owned()).await?;
        manager.get_connection().execute_unprepared(fill(manager.get_database_backend())).await?;
        for (name, column) in [("change_log_project", "project_id"), ("change_log_actor", "actor")] {
            let index = Index::create().name(name).table("change_log").col(column).col("revision").to_owned();
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

/// Until now every entry that belongs to a project is about `projects/6666` or `projects/6666/keys/…`.
const fn fill(backend: sea_orm::DatabaseBackend) -> &'static str {
    match backend {
        sea_orm::DatabaseBackend::Sqlite => {
            "UPDATE change_log SET project_id = substr(resource, 10, instr(substr(resource, 10) || '/', '/') - 1) \
             WHERE resource LIKE 'projects/%'"
        }
        _ => "UPDATE change_log SET project_id = split_part(resource, '/', 2) WHERE resource LIKE 'projects/%'",
    }
}
