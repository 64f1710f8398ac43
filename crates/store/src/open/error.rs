use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use keyward_domain::Error;
use sea_orm::{DbErr, RuntimeErr};

use crate::error::fault;
use crate::open::url::UrlError;
use crate::pools::MAX_CONNECTIONS;

/// A database, as an error names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseAt {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL server. Its URL is not shown, because it may hold a password.
    Server,
}

impl DatabaseAt {
    /// How a copy of such a database is made.
    const fn advice(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "`keyward backup FILE` makes a whole copy, also while the server runs, and `keyward restore FILE` puts it back"
            }
            Self::Server => "pg_basebackup or pg_dump makes a whole copy",
        }
    }
}

impl fmt::Display for DatabaseAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server => f.write_str("the PostgreSQL database"),
        }
    }
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL starts with neither `sqlite:` nor `postgres://`.
    #[error("the database URL must start with sqlite: or postgres://")]
    Scheme,
    /// Another process has the SQLite file open. Two admins over one file would break the fence: each assumes that it alone
    /// grants leases.
    #[error("another keyward process uses the database {0}")]
    InUse(PathBuf),
    /// The lock file beside the SQLite file could not be created. Likely the directory is missing or not writable.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file of the SQLite database could not be made private to its owner.
    #[error("cannot use {path}: {source}")]
    Private {
        /// The database file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The database could not be reached, or refused a statement. The message ends with the driver's text, which may name
    /// hosts and roles but never a password.
    #[error("cannot open the database: {0}")]
    Driver(String),
    /// The PostgreSQL database is not encoded in UTF-8.
    #[error(
        "the database's encoding is {0}, and Keyward needs UTF8, or some descriptions could not be stored: create it with \
         CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// A pooler moves a session between server processes.
    #[error(
        "the database is behind a connection pooler in transaction mode, where prepared statements and LISTEN get lost: \
         give Keyward the server itself, or a pool in session mode"
    )]
    TransactionPooling,
    /// `CONNECTION LIMIT` of the role or of the database is too low.
    #[error(
        "the database's role may hold {0} connections, and one admin uses up to {MAX_CONNECTIONS}: raise CONNECTION LIMIT"
    )]
    TooFewConnections(u32),
    /// The database is damaged, or is a copy whose parts are of different moments.
    #[error(
        "{at} is not whole: {problem}. It is damaged, or it was copied while it was in use. Nothing was written to its log. \
         {} (docs/backup.md)",
        at.advice()
    )]
    Torn {
        /// The database.
        at: DatabaseAt,
        /// What is wrong with it.
        problem: String,
    },
    /// A migration is pending, and the role of the URL may not change the schema.
    #[error(
        "the database's schema is older than this version of Keyward (it lacks {pending}), and the role of the URL may not \
         change it: run `keyward init` of this version with a role that may, and grant SELECT, INSERT, UPDATE and DELETE on \
         new tables to the role of the admins (docs/database.md)"
    )]
    MayNotMigrate {
        /// The first migration that the database lacks.
        pending: String,
    },
    /// The schema of a copy is older than this version.
    #[error(
        "the schema of {at} is older than this version of Keyward (it lacks {pending}): back it up with the version that \
         last ran on it, or start this version on it first"
    )]
    OldSchema {
        /// The copy.
        at: DatabaseAt,
        /// The first migration that it lacks.
        pending: String,
    },
    /// The path of a copy is not UTF-8, which SQLite requires.
    #[error("the path {0:?} is not UTF-8 text")]
    PathNotText(PathBuf),
    /// The database was initialized with another keyring.
    #[error(
        "this keyring is not the one that the database was made with; with it every token would be unknown. Start with the original keyring"
    )]
    WrongKeyring,
    /// The URL must not be used.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The database returned a value that Keyward does not write.
    #[error("{0}")]
    Store(#[from] Error),
}

impl From<DbErr> for OpenError {
    fn from(error: DbErr) -> Self {
        Self::Driver(match fault(&error) {
            Some(fault) => format!("{}: {error}", fault.what),
            None => error.to_string(),
        })
    }
}

impl From<sea_orm::sqlx::Error> for OpenError {
    fn from(error: sea_orm::sqlx::Error) -> Self {
        DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))).into()
    }
}
