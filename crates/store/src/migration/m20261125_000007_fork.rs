//! Forks of the history, and tokens that are withheld after one.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, blob, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One row for each detected loss of changes, which began a new epoch. The epoch in rev_counter is the newest one. The
        // first epoch of a database has no row.
        let fork = Table::create()
            .table("history_fork")
            .col(uuid("epoch").primary_key())
            // The epoch that ended.
            .col(uuid("former"))
            // The epoch whose changes are lost, usually the one that ended.
            .col(uuid("lost"))
            .col(big_integer("time"))
            // When an owner accepted the epoch; NULL until then.
            .col(big_integer_null("accept_time"))
            .to_owned();
        manager.create_table(fork).await?;
        // Tokens that a lost history denied. Emptied when the epoch is accepted.
        let withheld = Table::create()
            .table("withheld_token")
            .col(blob("digest").primary_key())
            .col(uuid("key_uid"))
            // The instant from which the token is refused.
            .col(big_integer("refused_from"))
            .to_owned();
        manager.create_table(withheld).await
    }
}
