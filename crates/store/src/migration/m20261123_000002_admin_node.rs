//! The admin lives that share a database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("admin_node")
            .col(uuid("incarnation").primary_key())
            // The longest lease that the life grants, in milliseconds.
            .col(big_integer("lease_ms"))
            // The number of its heartbeats. Not a time, because clocks of different machines cannot be compared.
            .col(big_integer("heartbeat"))
            .to_owned();
        manager.create_table(table).await
    }
}
