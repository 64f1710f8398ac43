//! Indexes of the change log by project and by actor, and the MAC of the head.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{blob_null, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The project of the entry, copied from the change for the index. VerifyLog compares the two.
        let mut column = string_null("project_id");
        manager.alter_table(Table::alter().table("change_log").add_column(&mut column).to_owned()).await?;
        // MAC of the head, computed in the transaction of this migration.
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

/// Fills `project_id`. Every earlier entry of a project is about `projects/6666` or `projects/6666/keys/…`.
const fn fill(backend: sea_orm::DatabaseBackend) -> &'static str {
    match backend {
        sea_orm::DatabaseBackend::Sqlite => {
            "UPDATE change_log SET project_id = substr(resource, 10, instr(substr(resource, 10) || '/', '/') - 1) \
             WHERE resource LIKE 'projects/%'"
        }
        _ => "UPDATE change_log SET project_id = split_part(resource, '/', 2) WHERE resource LIKE 'projects/%'",
    }
}
