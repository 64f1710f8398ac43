//! Revocation of credentials.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // NULL until the credential is revoked. The row stays, so that a retry of the revocation finds it.
        let mut column = big_integer_null("revoke_time");
        manager.alter_table(Table::alter().table("credential").add_column(&mut column).to_owned()).await
    }
}
