//! Maps the driver's errors to the domain's. Driver text goes to the log, never to a caller.

use std::borrow::Cow;

use keyward_domain::Error;
use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

/// Why a transaction has no result.
#[derive(Debug)]
pub(crate) enum TxError {
    /// An error for the caller.
    Answer(Error),
    /// A concurrent transaction conflicted. This one may succeed when it is run again.
    Conflict(DbErr),
}

impl From<Error> for TxError {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

impl From<DbErr> for TxError {
    fn from(error: DbErr) -> Self {
        if is_conflict(&error) { Self::Conflict(error) } else { Self::Answer(from_driver(error)) }
    }
}

/// For work that is not run again after a conflict: the conflict is reported like any other failure of the database.
impl From<TxError> for Error {
    fn from(error: TxError) -> Self {
        match error {
            TxError::Answer(error) => error,
            TxError::Conflict(error) => from_driver(error),
        }
    }
}

/// Returns `true` for serialization failures and deadlocks of PostgreSQL, and for unique violations: every insert is preceded
/// by a query for the row, so an insert that still finds one lost a race.
fn is_conflict(error: &DbErr) -> bool {
    error.sql_err().is_some() || matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// The error for a row that its writer cannot have written: a defect, or an edit of the database outside Keyward.
pub(crate) fn corrupt(problem: impl std::fmt::Display) -> Error {
    Error::internal(format!("unreadable row: {problem}"))
}

/// The error for a failure of the database. It names the fault, and its reason states if a retry can help.
pub(crate) fn from_driver(error: DbErr) -> Error {
    if is_unreadable(&error) {
        return corrupt(error);
    }
    let detail = error.to_string();
    match fault(&error) {
        Some(Fault { what, lasting: true }) => Error::store_refused(&what, detail),
        Some(Fault { what, lasting: false }) => Error::store_unable(&what, detail),
        None => Error::store_unavailable(detail),
    }
}

/// A fault of the database that its error code identifies.
pub(crate) struct Fault {
    /// Description for callers, without driver text.
    pub(crate) what: Cow<'static, str>,
    /// `true` if an operator has to act before a retry can succeed.
    lasting: bool,
}

/// The fault that an error code identifies. `None` if the code identifies none, or the database did not answer.
pub(crate) fn fault(error: &DbErr) -> Option<Fault> {
    if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
        // The pool retries while the server is full (SQLSTATE 53300), and its timeout does not name that cause.
        return temporary(
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

/// The error code from the database: the SQLSTATE of PostgreSQL, the extended result code of SQLite.
fn code(error: &DbErr) -> Option<String> {
    database_error(error)?.code().map(Cow::into_owned)
}

/// Returns `true` if PostgreSQL reports that the role lacks a privilege.
pub(crate) fn is_permission_denied(error: &DbErr) -> bool {
    code(error).as_deref() == Some("42501")
}

/// Returns `true` if SQLite reports that its file is damaged or no database.
pub(crate) fn is_damage(error: &DbErr) -> bool {
    let Some(source) = database_error(error) else { return false };
    let is_sqlite = source.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some();
    let code = source.code().and_then(|code| code.parse::<u32>().ok());
    is_sqlite && matches!(code.map(|code| code & 0xff), Some(11 | 26))
}

/// Returns `true` if the database answered with a value that the column cannot hold.
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

fn temporary(what: impl Into<Cow<'static, str>>) -> Option<Fault> {
    Some(Fault { what: what.into(), lasting: false })
}

fn lasting(what: impl Into<Cow<'static, str>>) -> Option<Fault> {
    Some(Fault { what: what.into(), lasting: true })
}

/// Faults by SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgresql(sqlstate: &str) -> Option<Fault> {
    let lasting = |what: &str| lasting(format!("{what} (SQLSTATE {sqlstate})"));
    let temporary = |what: &str| temporary(format!("{what} (SQLSTATE {sqlstate})"));
    match sqlstate {
        "28P01" | "28000" => lasting("the database refuses the login: user, password or pg_hba.conf"),
        "3D000" => lasting("the database of the URL does not exist"),
        "42501" => lasting("the database's role lacks a privilege that Keyward needs"),
        "3F000" => lasting("the database has no schema that its role may use"),
        "22P05" | "22021" => lasting("the database's encoding cannot hold a character of this request"),
        "26000" | "42P05" => {
            lasting("the database loses prepared statements: is a pooler in transaction mode before it?")
        }
        "25006" => temporary("the database is read-only: is it a standby?"),
        "53100" => temporary("the database's disk is full"),
        "53200" => temporary("the database is out of memory"),
        "53300" => temporary("the database accepts no more connections for this role"),
        "57014" => temporary("the database's operator or a timeout has cancelled the statement"),
        _ => match sqlstate.get(..2)? {
            "42" => lasting("the database's schema is not the one that this version of Keyward makes"),
            "0A" => lasting("the database does not support a statement that Keyward needs"),
            "22" | "23" => lasting("the database refuses a value of this request"),
            "XX" => lasting("the database reports damage in itself"),
            "58" => temporary("the database cannot read or write its files"),
            _ => None,
        },
    }
}

/// Faults by result code: <https://www.sqlite.org/rescode.html>. The low byte of an extended code is the primary code.
fn of_sqlite(code: u32, message: &str) -> Option<Fault> {
    match code & 0xff {
        1 if message.starts_with("no such table") || message.starts_with("no such column") => {
            lasting("the database's schema is not the one that this version of Keyward makes")
        }
        5 | 6 => temporary("another process holds the database's lock"),
        7 => temporary("the database is out of memory"),
        8 => lasting("the database's file is read-only"),
        10 => temporary("the database's file cannot be read or written"),
        11 | 26 => lasting("the database's file is damaged"),
        13 => temporary("the database's disk is full"),
        14 => temporary("the database's file cannot be opened"),
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
    fn an_unreadable_value_is_internal_and_not_unavailable() {
        let source = sqlx::Error::ColumnDecode { index: "epoch".to_owned(), source: "not a UUID".into() };
        for error in [DbErr::Type("x".to_owned()), DbErr::Query(RuntimeErr::SqlxError(std::sync::Arc::new(source)))] {
            let text = error.to_string();
            assert_eq!(from_driver(error).reason().kind(), Kind::Internal, "{text}");
        }
    }

    #[test]
    fn errors_are_retriable_only_if_a_retry_can_help() {
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
