//! Projects, keys, members, the change log and its counter.
//!
//! Times are Unix microseconds in BIGINT. Ids are text. Uids are UUIDs (16 bytes in SQLite). Columns named `revision` hold the
//! number of an entry in the change log.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, blob, blob_null, boolean, integer, integer_null, string, string_null, text, uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [counter(), change_log(), setting(), project(), key(), key_token()] {
            manager.create_table(table).await?;
        }
        for table in [member(), role_binding(), credential(), request()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).to_owned()
}

/// The head of the log, in one row. Writers lock it last, so revisions are in commit order.
fn counter() -> TableCreateStatement {
    table("rev_counter")
        .col(integer("id").primary_key())
        .col(big_integer("revision"))
        .col(blob("chain"))
        // The epoch: random id of this history.
        .col(uuid("epoch"))
        .to_owned()
}

/// The change log: actor, time, and images before and after. It is the audit log and the source of the Sync stream.
fn change_log() -> TableCreateStatement {
    table("change_log")
        .col(big_integer("revision").primary_key())
        // Keyed BLAKE3 over the previous entry's chain value and this entry.
        .col(blob("chain"))
        .col(big_integer("time"))
        .col(string("actor"))
        .col(string("resource"))
        // JSON of domain::Change.
        .col(text("change"))
        .to_owned()
}

/// Settings of the deployment, such as the keyring's fingerprint and the next project number.
fn setting() -> TableCreateStatement {
    table("setting").col(string("name").primary_key()).col(text("value")).to_owned()
}

fn project() -> TableCreateStatement {
    table("project")
        .col(string("project_id").primary_key())
        .col(uuid("uid").unique_key())
        .col(string("display_name"))
        .col(string("creator"))
        .col(big_integer("create_time"))
        .col(big_integer("create_revision"))
        .to_owned()
}

fn key() -> TableCreateStatement {
    table("api_key")
        .col(uuid("uid").primary_key())
        .col(string("project_id"))
        .col(string("key_id"))
        // active or deactivated.
        .col(string("state"))
        .col(boolean("default_key"))
        .col(text("description"))
        .col(string("platform"))
        // Last four characters of the current token.
        .col(string("last4"))
        .col(string("creator"))
        .col(big_integer("create_time"))
        .col(big_integer("update_time"))
        .col(string_null("deactivator"))
        .col(big_integer_null("deactivate_time"))
        .col(big_integer_null("expire_time"))
        // JSON object of strings.
        .col(text("annotations"))
        .col(big_integer("create_revision"))
        .col(big_integer("revision"))
        .foreign_key(ForeignKey::create().from("api_key", "project_id").to("project", "project_id"))
        .to_owned()
}

/// The tokens of keys, one row each: a key can have two during a rotation.
fn key_token() -> TableCreateStatement {
    table("key_token")
        // Keyed BLAKE3 of the token.
        .col(blob("digest").primary_key())
        .col(integer("digest_key_id"))
        .col(uuid("key_uid"))
        .col(integer("generation"))
        // When the token ends; NULL if it is not superseded.
        .col(big_integer_null("not_after"))
        // The token, sealed; NULL without a sealing key.
        .col(blob_null("sealed"))
        .col(integer_null("sealing_key_id"))
        .col(big_integer("create_time"))
        .foreign_key(ForeignKey::create().from("key_token", "key_uid").to("api_key", "uid"))
        .to_owned()
}

fn member() -> TableCreateStatement {
    table("member")
        .col(string("member_id").primary_key())
        .col(uuid("uid").unique_key())
        .col(string("display_name"))
        .col(string_null("creator"))
        .col(big_integer("create_time"))
        .col(big_integer("create_revision"))
        .to_owned()
}

fn role_binding() -> TableCreateStatement {
    table("role_binding")
        .col(string("member_id"))
        .col(string("role"))
        // Empty for roles on the deployment.
        .col(string("project_id"))
        .primary_key(Index::create().col("member_id").col("role").col("project_id"))
        .foreign_key(ForeignKey::create().from("role_binding", "member_id").to("member", "member_id"))
        .to_owned()
}

fn credential() -> TableCreateStatement {
    table("credential")
        // Keyed BLAKE3 of the credential, under a digest key that is used for credentials only.
        .col(blob("digest").primary_key())
        .col(integer("digest_key_id"))
        .col(string("member_id"))
        .col(big_integer("create_time"))
        .foreign_key(ForeignKey::create().from("credential", "member_id").to("member", "member_id"))
        .to_owned()
}

/// Outcomes of requests with a request id, kept for retries for 24 hours.
fn request() -> TableCreateStatement {
    table("request")
        .col(string("member_id"))
        .col(string("method"))
        .col(string("request_id"))
        // Hash of the request without its request_id.
        .col(blob("payload"))
        // Name of the resource that the request created.
        .col(string("resource"))
        .col(big_integer("revision"))
        // The secret in the first answer, sealed; NULL without a sealing key.
        .col(blob_null("sealed"))
        .col(integer_null("sealing_key_id"))
        .col(big_integer("create_time"))
        .primary_key(Index::create().col("member_id").col("method").col("request_id"))
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create().name(name).table(table).to_owned();
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        index("api_key_name", "api_key", &["project_id", "key_id"]).unique().to_owned(),
        index("api_key_order", "api_key", &["project_id", "create_revision"]),
        index("project_order", "project", &["create_revision"]),
        index("member_order", "member", &["create_revision"]),
        index("key_token_key", "key_token", &["key_uid", "generation"]).unique().to_owned(),
        index("credential_member", "credential", &["member_id"]),
        index("request_age", "request", &["create_time"]),
    ]
}
