//! The addresses at which admins that share a database reach each other.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // URL of its gRPC listener; NULL if other admins cannot reach it.
        let mut column = string_null("address");
        manager.alter_table(Table::alter().table("admin_node").add_column(&mut column).to_owned()).await
    }
}
