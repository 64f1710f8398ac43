//! Checks at start that the database is whole. A copy of a database that is in use may be torn: its parts are of different
//! moments.

use std::path::Path;

use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection, DbErr, EntityTrait, PaginatorTrait};
use sea_orm::{QueryOrder, QuerySelect, Statement};

use crate::connection::Transaction;
use crate::entity::change;
use crate::error::is_damage;
use crate::log::head::find_head;
use crate::open::error::{DatabaseAt, OpenError};
use crate::store::Store;

/// How thoroughly a SQLite file is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileCheck {
    /// The structure of the file: every page is used once, and every row can be read. For each start.
    Structure,
    /// The structure, and every index against its table. For backups.
    WithIndexes,
}

/// Checks a SQLite file. `path` names the file in the error.
pub(crate) async fn check_file(db: &DatabaseConnection, path: &Path, check: FileCheck) -> Result<(), OpenError> {
    // One problem is enough to refuse the file.
    let sql = match check {
        FileCheck::Structure => "PRAGMA quick_check(1)",
        FileCheck::WithIndexes => "PRAGMA integrity_check(1)",
    };
    let found = db.query_one_raw(Statement::from_string(DatabaseBackend::Sqlite, sql)).await;
    let row = found.map_err(|error| of_file(path, error))?;
    let answer = row.map_or(Ok(String::new()), |row| row.try_get_by_index::<String>(0))?;
    if answer == "ok" {
        return Ok(());
    }
    Err(OpenError::Torn { at: DatabaseAt::File(path.to_owned()), problem: format!("SQLite's check found: {answer}") })
}

/// The error for a failure of SQLite at the file `path`. A damaged file is reported with its path.
pub(crate) fn of_file(path: &Path, error: DbErr) -> OpenError {
    if is_damage(&error) {
        return OpenError::Torn { at: DatabaseAt::File(path.to_owned()), problem: error.to_string() };
    }
    error.into()
}

impl Store {
    /// Checks that the change log ends at its head, and for SQLite that no entry is missing. A database that is not
    /// initialized passes if its log is empty.
    pub(crate) async fn check_end_of_log(&self) -> Result<(), OpenError> {
        let tx = self.reader().begin_snapshot().await?;
        let problem = self.problem_at_end(&tx).await?;
        tx.commit().await?;
        problem.map_or(Ok(()), |problem| Err(OpenError::Torn { at: self.database_at(), problem }))
    }

    async fn problem_at_end(&self, tx: &Transaction) -> Result<Option<String>, OpenError> {
        let last = change::Entity::find().order_by_desc(change::Column::Revision).limit(1).one(tx).await?;
        let Some(head) = find_head(tx).await? else {
            return Ok(last.map(|_| "the change log has entries and no head".to_owned()));
        };
        let (end, chain) = last.map_or((0, Vec::new()), |last| (last.revision, last.chain));
        if end != head.revision {
            let head = head.revision;
            return Ok(Some(format!("the change log ends at revision {end}, and its head is at revision {head}")));
        }
        if chain != head.chain {
            return Ok(Some(format!("the head of the change log differs from its last entry, at revision {end}")));
        }
        if !self.is_postgres() {
            // PostgreSQL would read the whole table, and has no files that a person copies one by one.
            let entries = change::Entity::find().count(tx).await?;
            if i64::try_from(entries) != Ok(end) {
                return Ok(Some(format!("the change log has {entries} entries up to revision {end}")));
            }
        }
        Ok(None)
    }
}
