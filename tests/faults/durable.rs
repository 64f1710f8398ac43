//! What is in the database, asked past Keyward.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

/// A look at a SQLite database by a connection of its own, which sees committed changes only.
pub(crate) struct Committed(SqliteConnection);

impl Committed {
    pub(crate) async fn of(database: &Path) -> Self {
        Self(SqliteConnectOptions::new().filename(database).read_only(true).connect().await.unwrap())
    }

    /// The newest revision.
    pub(crate) async fn revision(&mut self) -> i64 {
        sqlx::query_scalar("SELECT revision FROM rev_counter").fetch_one(&mut self.0).await.unwrap()
    }

    /// The resources of the log's entries after a revision.
    pub(crate) async fn resources_after(&mut self, revision: i64) -> Vec<String> {
        let sql = "SELECT resource FROM change_log WHERE revision > ? ORDER BY revision";
        sqlx::query_scalar(sql).bind(revision).fetch_all(&mut self.0).await.unwrap()
    }
}
