//! A PostgreSQL server: session settings, and checks that the server can keep Keyward's guarantees.

use std::sync::Arc;
use std::time::Duration;

use keyward_token::DigestKey;
use sea_orm::ConnectOptions as SeaConnectOptions;
use sea_orm::sqlx;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

use crate::connection::pool_guard::discard_open_transactions;
use crate::open::error::OpenError;
use crate::open::url;
use crate::pools::{MAX_CONNECTIONS, Pools, ServerOptions};
use crate::store::{Backend, Store};

/// Settings of every session, whatever the defaults of the database and the role:
///
/// * READ COMMITTED: a transaction that locks the head of the log sees everything committed before it got the lock. At a
///   higher level it would fail instead, and under load fail again on every retry.
/// * `synchronous_commit`: acknowledged commits are on disk. Otherwise a crash could bring a deactivated key back.
/// * `idle_in_transaction_session_timeout`: an admin that stops in the middle of a transaction, such as one cut off from the
///   network, holds the head of the log and blocks every writer. The server ends its session before waiting admins time out.
/// * `client_min_messages`: notices, such as that a table exists already, are no events of an admin's log.
const SESSION: &str = "
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SET idle_in_transaction_session_timeout = '3s';
SET client_min_messages = 'warning';
";

/// The `application_name` of connections without one.
const APPLICATION: &str = "keyward";

/// The longest wait for one answer during the checks at start.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the server and connects to it.
pub(crate) async fn open(url: &str, chain_key: DigestKey) -> Result<Store, OpenError> {
    let options = options(url)?;
    check(&named(url::options(url)?)).await?;
    let pools = Pools::connect_lazy(&options).await?;
    pools.check().await?;
    Ok(Store::new(pools, Backend::Postgres(Arc::new(ServerOptions::new(options))), chain_key))
}

/// How to connect to the server of `url`.
pub(crate) fn options(url: &str) -> Result<SeaConnectOptions, OpenError> {
    // sea-orm's error would quote an unparsable URL with its password. The error of `url::options` names the fault only.
    url::options(url)?;
    let mut options = SeaConnectOptions::new(url::for_driver(url)?);
    options.acquire_timeout(Duration::from_secs(5)).sqlx_logging(false);
    options.map_sqlx_postgres_opts(named);
    options.map_sqlx_postgres_pool_opts(|pool| {
        discard_open_transactions(pool)
            .after_connect(|connection, _| Box::pin(async { connection.execute(SESSION).await.map(drop) }))
    });
    Ok(options)
}

/// Names the connections for the server's activity views and logs, unless the URL or `PGAPPNAME` does.
fn named(options: PgConnectOptions) -> PgConnectOptions {
    if options.get_application_name().is_some_and(|name| !name.is_empty()) {
        return options;
    }
    options.application_name(APPLICATION)
}

/// Checks the database that an admin is about to use.
///
/// # Errors
/// Its encoding is not UTF-8, a pooler runs the transactions of one session in different server processes, or the role may
/// hold fewer connections than one admin uses.
async fn check(options: &PgConnectOptions) -> Result<(), OpenError> {
    let options = options.clone().disable_statement_logging();
    let mut first = PgConnection::connect_with(&options).await?;
    let mut second = PgConnection::connect_with(&options).await?;
    check_encoding(&mut first).await?;
    check_sessions(&mut first, &mut second).await?;
    check_connection_limit(&mut first).await?;
    // A connection that is closed cleanly saves the server a log line, and nothing else.
    let _ = (first.close().await, second.close().await);
    Ok(())
}

async fn check_encoding(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row = sqlx::raw_sql("SHOW server_encoding").fetch_one(connection).await?;
    let encoding: String = row.try_get(0)?;
    if encoding.eq_ignore_ascii_case("UTF8") { Ok(()) } else { Err(OpenError::Encoding(encoding)) }
}

/// Checks that a session keeps its server process, which holds its prepared statements, its LISTEN and its settings. A pooler
/// in transaction mode gives the server process of one session to another between two transactions.
async fn check_sessions(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), OpenError> {
    let before = server_process(first).await?;
    // The pooler gives the second session a server process, most likely the one that the first session used just now, and
    // cannot take it back before the transaction ends.
    sqlx::raw_sql("BEGIN").execute(&mut *second).await?;
    let other = server_process(second).await?;
    let mut kept = before != other;
    for _ in 0..3 {
        let now = tokio::time::timeout(CHECK_TIMEOUT, server_process(first));
        kept = kept && now.await.is_ok_and(|now| now.is_ok_and(|now| now == before));
    }
    sqlx::raw_sql("ROLLBACK").execute(second).await?;
    if kept { Ok(()) } else { Err(OpenError::TransactionPooling) }
}

/// The process id of the server process that serves a session at this moment.
async fn server_process(session: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(session).await?.try_get(0)
}

/// Checks `CONNECTION LIMIT` of the role and of the database. Superusers have no limit.
async fn check_connection_limit(connection: &mut PgConnection) -> Result<(), OpenError> {
    let sql = "SELECT LEAST(NULLIF(r.rolconnlimit, -1), NULLIF(d.datconnlimit, -1)) FROM pg_roles r, pg_database d \
               WHERE r.rolname = current_user AND d.datname = current_database() AND NOT r.rolsuper";
    let row = match sqlx::raw_sql(sql).fetch_optional(connection).await {
        Ok(row) => row,
        // Other databases with PostgreSQL's protocol may lack these catalogs.
        Err(sqlx::Error::Database(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let limit: Option<i32> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    match limit.and_then(|limit| u32::try_from(limit).ok()) {
        Some(limit) if limit < MAX_CONNECTIONS => Err(OpenError::TooFewConnections(limit)),
        _ => Ok(()),
    }
}
