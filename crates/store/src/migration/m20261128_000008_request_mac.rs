//! The MAC of a remembered request.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::blob_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // NULL in rows of versions before 2026-11-28. Such a row never returns a secret, and is deleted after 24 hours.
        let mut column = blob_null("mac");
        manager.alter_table(Table::alter().table("request").add_column(&mut column).to_owned()).await
    }
}
