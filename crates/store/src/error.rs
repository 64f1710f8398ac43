//! From the driver's errors to the domain's, once: driver text goes to the log only.

use keyward_domain::Error;
use sea_orm::{DbErr, RuntimeErr};

/// How a transaction ended without a result.
#[derive(Debug)]
pub(crate) enum TxError {
    /// An answer for the caller.
    Answer(Error),
    /// Another transaction got in between; the same one may succeed when run again.
    Conflict(DbErr),
}

impl From<Error> for TxError {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

impl From<DbErr> for TxError {
    fn from(error: DbErr) -> Self {
        if is_conflict(&error) { Self::Conflict(error) } else { Self::Answer(unavailable(&error)) }
    }
}

/// Unique violations are conflicts too: each insert looks first, so one that still hits a row came second in a race.
fn is_conflict(error: &DbErr) -> bool {
    if error.sql_err().is_some() {
        return true;
    }
    let (DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source))) = error else {
        return false;
    };
    // PostgreSQL: serialization failure, deadlock.
    let Some(source) = source.as_database_error() else { return false };
    source.code().is_some_and(|code| code == "40001" || code == "40P01")
}

/// What a caller sees of any trouble with the database.
pub(crate) fn unavailable(error: &DbErr) -> Error {
    Error::store_unavailable(error.to_string())
}

/// A row that does not say what its writer must have written: a defect, or somebody edited the database.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::internal(format!("unreadable row: {what}"))
}
