//! From the driver's errors to the domain's, once: driver text goes to the log only.

use std::borrow::Cow;

use keyward_domain::Error;
use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

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
        if is_conflict(&error) { Self::Conflict(error) } else { Self::Answer(from_driver(&error)) }
    }
}

/// Unique violations are conflicts too: each insert looks first, so one that still hits a row came second in a race.
fn is_conflict(error: &DbErr) -> bool {
    // PostgreSQL: serialization failure, deadlock.
    error.sql_err().is_some() || matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// A row that does not say what its writer must have written: a defect, or somebody edited the database.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::internal(format!("unreadable row: {what}"))
}

/// What a caller learns of a failure of the database: what is wrong, and whether a retry can help.
pub(crate) fn from_driver(error: &DbErr) -> Error {
    if is_unreadable(error) {
        return corrupt(error);
    }
    let detail = error.to_string();
    match fault(error) {
        Some(Fault { what, lasting: true }) => Error::store_refused(&what, detail),
        Some(Fault { what, lasting: false }) => Error::store_unable(&what, detail),
        None => Error::store_unavailable(detail),
    }
}

/// What is wrong with the database.
pub(crate) struct Fault {
    /// In words for callers, without driver text.
    pub(crate) what: Cow<'static, str>,
    /// An operator has to act; a retry does not help before that.
    lasting: bool,
}

/// What is wrong with the database, as far as its error code says. `None`: it did not answer.
pub(crate) fn fault(error: &DbErr) -> Option<Fault> {
    if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
        // The pool tries on while the server has no room (SQLSTATE 53300), and keeps the cause to itself.
        return passing(
            "no connection to the database became free in time: the database does not answer, or accepts no more connections",
        );
    }
    let source = database_error(error)?;
    let code = source.code()?;
    if source.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        of_sqlite(code.parse().ok()?, source.message())
    } else {
        of_postgresql(&code)
    }
}

/// The error code that the database gave: of PostgreSQL the SQLSTATE, of SQLite the extended result code.
fn code(error: &DbErr) -> Option<String> {
    database_error(error)?.code().map(Cow::into_owned)
}

/// Returns `true` if the database answered, with a value that its column cannot have.
fn is_unreadable(error: &DbErr) -> bool {
    match error {
        DbErr::Type(_) | DbErr::Json(_) => true,
        DbErr::Query(RuntimeErr::SqlxError(source)) => matches!(**source, sqlx::Error::ColumnDecode { .. }),
        _ => false,
    }
}

fn database_error(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(source))
        | DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => source.as_database_error(),
        _ => None,
    }
}

fn passing(what: impl Into<Cow<'static, str>>) -> Option<Fault> {
    Some(Fault { what: what.into(), lasting: false })
}

fn lasting(what: impl Into<Cow<'static, str>>) -> Option<Fault> {
    Some(Fault { what: what.into(), lasting: true })
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgresql(sqlstate: &str) -> Option<Fault> {
    let lasts = |what: &str| lasting(format!("{what} (SQLSTATE {sqlstate})"));
    let passes = |what: &str| passing(format!("{what} (SQLSTATE {sqlstate})"));
    match sqlstate {
        "28P01" | "28000" => lasts("the database refuses the login: user, password or pg_hba.conf"),
        "3D000" => lasts("the database of the URL does not exist"),
        "42501" => lasts("the database's role lacks a privilege that Keyward needs"),
        "3F000" => lasts("the database has no schema that its role may use"),
        "22P05" | "22021" => lasts("the database's encoding cannot hold a character of this request"),
        "26000" | "42P05" => {
            lasts("the database loses prepared statements: is a pooler in transaction mode before it?")
        }
        "25006" => passes("the database is read-only: is it a standby?"),
        "53100" => passes("the database's disk is full"),
        "53200" => passes("the database is out of memory"),
        "53300" => passes("the database accepts no more connections for this role"),
        "57014" => passes("the database's operator or a timeout has cancelled the statement"),
        _ => match sqlstate.get(..2)? {
            "42" => lasts("the database's schema is not the one that this version of Keyward makes"),
            "0A" => lasts("the database does not support a statement that Keyward needs"),
            "22" | "23" => lasts("the database refuses a value of this request"),
            "XX" => lasts("the database reports damage in itself"),
            "58" => passes("the database cannot read or write its files"),
            _ => None,
        },
    }
}

/// <https://www.sqlite.org/rescode.html>: the low byte of an extended code is the primary one.
fn of_sqlite(code: u32, message: &str) -> Option<Fault> {
    match code & 0xff {
        1 if message.starts_with("no such table") || message.starts_with("no such column") => {
            lasting("the database's schema is not the one that this version of Keyward makes")
        }
        5 | 6 => passing("another process holds the database's lock"),
        7 => passing("the database is out of memory"),
        8 => lasting("the database's file is read-only"),
        10 => passing("the database's file cannot be read or written"),
        11 | 26 => lasting("the database's file is damaged"),
        13 => passing("the database's disk is full"),
        14 => passing("the database's file cannot be opened"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use keyward_domain::Kind;

    use super::*;

    fn kind(fault: Option<Fault>) -> Kind {
        match fault {
            Some(Fault { what, lasting: true }) => Error::store_refused(&what, "").reason().kind(),
            Some(Fault { what, lasting: false }) => Error::store_unable(&what, "").reason().kind(),
            None => Error::store_unavailable("").reason().kind(),
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_taken_for_a_database_that_does_not_answer() {
        let source = sqlx::Error::ColumnDecode { index: "epoch".to_owned(), source: "not a UUID".into() };
        for error in [DbErr::Type("x".to_owned()), DbErr::Query(RuntimeErr::SqlxError(std::sync::Arc::new(source)))] {
            assert_eq!(from_driver(&error).reason().kind(), Kind::Internal, "{error}");
        }
    }

    #[test]
    fn a_retry_is_advised_only_where_it_can_help() {
        for code in ["53100", "53300", "57014", "57P01", "57P03", "08006", "25006", "55P03", "58030"] {
            assert_eq!(kind(of_postgresql(code)), Kind::Unavailable, "{code}");
        }
        for code in ["28P01", "3D000", "42501", "42P01", "42703", "22P05", "26000", "42P05", "XX001", "0A000"] {
            assert_eq!(kind(of_postgresql(code)), Kind::FailedPrecondition, "{code}");
        }
        // SQLITE_BUSY, NOMEM, IOERR_FSYNC, IOERR_SHMMAP, FULL, CANTOPEN.
        for code in [5, 7, 1034, 5386, 13, 14] {
            assert_eq!(kind(of_sqlite(code, "")), Kind::Unavailable, "{code}");
        }
        // SQLITE_READONLY_DBMOVED, CORRUPT, NOTADB.
        for code in [1032, 11, 26] {
            assert_eq!(kind(of_sqlite(code, "")), Kind::FailedPrecondition, "{code}");
        }
    }
}
