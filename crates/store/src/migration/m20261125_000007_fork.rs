//! Histories that lost changes, and what is refused for their sake.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, blob, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One row for each time that the database was found to have lost changes. The epoch in rev_counter is the newest;
        // the first of all has no row, for it is not the end of a fork.
        let fork = Table::create()
            .table("history_fork")
            .col(uuid("epoch").primary_key())
            // The epoch before.
            .col(uuid("former"))
            // The epoch whose changes are lost: mostly the one before.
            .col(uuid("lost"))
            .col(big_integer("time"))
            // When an owner accepted it; none: not yet.
            .col(big_integer_null("accept_time"))
            .to_owned();
        manager.create_table(fork).await?;
        // Tokens that a former history refused; emptied when the epoch is accepted.
        let withheld = Table::create()
            .table("withheld_token")
            .col(blob("digest").primary_key())
            .col(uuid("key_uid"))
            // From when on it is refused.
            .col(big_integer("refused_from"))
            .to_owned();
        manager.create_table(withheld).await
    }
}
