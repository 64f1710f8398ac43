//! Keys that replace others, and scheduled deactivations.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, string_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            big_integer_null("scheduled_deactivate_time"),
            // The member that scheduled the deactivation.
            string_null("scheduler"),
            // Ids of keys of the same project.
            string_null("replaces"),
            string_null("replaced_by"),
        ];
        for mut column in columns {
            // One column per statement, because SQLite adds no more.
            manager.alter_table(Table::alter().table("api_key").add_column(&mut column).to_owned()).await?;
        }
        let due = Index::create().name("api_key_due").table("api_key").col("scheduled_deactivate_time").to_owned();
        manager.create_index(due).await
    }
}
