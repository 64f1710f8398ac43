//! Refuses PostgreSQL databases on which Keyward cannot keep its promises.

use std::time::Duration;

use sea_orm::sqlx;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use crate::connect::{CONNECTIONS, OpenError};

/// How long a question to the database may take at start.
const ANSWER: Duration = Duration::from_secs(5);

/// Checks the database that an admin is about to use.
///
/// # Errors
/// Its encoding is not UTF-8, a pooler hands each transaction to another server process, or the role may not hold as
/// many connections as one admin uses.
pub(crate) async fn check(options: &PgConnectOptions) -> Result<(), OpenError> {
    let options = options.clone().disable_statement_logging();
    let mut first = PgConnection::connect_with(&options).await?;
    let mut second = PgConnection::connect_with(&options).await?;
    check_encoding(&mut first).await?;
    check_sessions(&mut first, &mut second).await?;
    check_connections(&mut first).await?;
    // Closing cleanly saves the server a log line, and nothing else.
    let _ = (first.close().await, second.close().await);
    Ok(())
}

async fn check_encoding(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row = sqlx::raw_sql("SHOW server_encoding").fetch_one(connection).await?;
    let encoding: String = row.try_get(0)?;
    if encoding.eq_ignore_ascii_case("UTF8") { Ok(()) } else { Err(OpenError::Encoding(encoding)) }
}

/// A session must keep its server process: prepared statements, LISTEN and session settings live in it. A pooler in
/// transaction mode gives the server process of one session to another between two transactions.
async fn check_sessions(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), OpenError> {
    let before = process(first).await?;
    // The pooler gives the second session a server process, most likely the one that the first has just used, and cannot
    // take it back before the transaction ends.
    sqlx::raw_sql("BEGIN").execute(&mut *second).await?;
    let other = process(second).await?;
    let mut kept = before != other;
    for _ in 0..3 {
        kept = kept
            && tokio::time::timeout(ANSWER, process(first)).await.is_ok_and(|now| now.is_ok_and(|now| now == before));
    }
    sqlx::raw_sql("ROLLBACK").execute(second).await?;
    if kept { Ok(()) } else { Err(OpenError::TransactionPooling) }
}

/// The process id of the server process that a session has at this moment.
async fn process(session: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(session).await?.try_get(0)
}

/// Asks for CONNECTION LIMIT of the role and of the database; superusers have none.
async fn check_connections(connection: &mut PgConnection) -> Result<(), OpenError> {
    let sql = "SELECT LEAST(NULLIF(r.rolconnlimit, -1), NULLIF(d.datconnlimit, -1)) FROM pg_roles r, pg_database d \
               WHERE r.rolname = current_user AND d.datname = current_database() AND NOT r.rolsuper";
    let row = match sqlx::raw_sql(sql).fetch_optional(connection).await {
        Ok(row) => row,
        // Other databases that speak PostgreSQL's protocol need not have these catalogs.
        Err(sqlx::Error::Database(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let limit: Option<i32> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    match limit.and_then(|limit| u32::try_from(limit).ok()) {
        Some(limit) if limit < CONNECTIONS => Err(OpenError::TooFewConnections(limit)),
        _ => Ok(()),
    }
}
