//! Direct access to the database, without Keyward.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

/// A separate connection to a SQLite database. It sees committed changes only.
pub(crate) struct Committed(SqliteConnection);

impl Committed {
    pub(crate) async fn of(database: &Path) -> Self {
        Self(SqliteConnectOptions::new().filename(database).read_only(true).connect().await.unwrap())
    }

    /// Returns the newest revision.
    pub(crate) async fn revision(&mut self) -> i64 {
        sqlx::query_scalar("SELECT revision FROM rev_counter").fetch_one(&mut self.0).await.unwrap()
    }

    /// Returns the resources of the log's entries after a revision.
    pub(crate) async fn resources_after(&mut self, revision: i64) -> Vec<String> {
        let sql = "SELECT resource FROM change_log WHERE revision > ? ORDER BY revision";
        sqlx::query_scalar(sql).bind(revision).fetch_all(&mut self.0).await.unwrap()
    }
}
