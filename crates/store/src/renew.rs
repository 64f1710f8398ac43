//! A password that is changed while an admin runs.

use std::sync::{PoisonError, RwLock};

use sea_orm::ConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;

use crate::connect::{Connections, OpenError, Store, postgres_options};
use crate::exposure::{UrlError, check_exposure};

/// How to connect anew. The URL in the options holds a password.
pub(crate) struct ServerOptions(RwLock<ConnectOptions>);

/// Why another URL was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The URL must not be used.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The URL leads elsewhere. Another database may have another history, which an admin looks at when it starts.
    #[error("the database URL names another host, port or database: that takes a restart")]
    Elsewhere,
    /// The database does not take the user or the password, or does not answer.
    #[error("{0}")]
    Open(#[from] OpenError),
}

impl ServerOptions {
    pub(crate) const fn new(options: ConnectOptions) -> Self {
        Self(RwLock::new(options))
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerOptions(…)")
    }
}

impl Store {
    /// Connects by another URL of the same database: another user, another password, other TLS parameters. Until a
    /// connection has come about by it, everything stays as it is.
    ///
    /// # Errors
    /// [`RenewError`]: the URL is not used.
    pub async fn renew(&self, url: &str, insecure_plaintext: bool) -> Result<(), RenewError> {
        let Some(remote) = &self.remote else { return Err(RenewError::Elsewhere) };
        check_exposure(url, insecure_plaintext)?;
        let (new, old) = (parsed(url)?, parsed(remote.options().get_url())?);
        let place = |options: &PgConnectOptions| {
            let (socket, database) = (options.get_socket().cloned(), options.get_database().map(str::to_owned));
            (options.get_host().to_owned(), options.get_port(), socket, database)
        };
        if place(&new) != place(&old) {
            return Err(RenewError::Elsewhere);
        }
        let options = postgres_options(url)?;
        let connections = Connections::to(&options).await.map_err(OpenError::from)?;
        connections.check().await.map_err(OpenError::from)?;
        *remote.0.write().unwrap_or_else(PoisonError::into_inner) = options;
        self.replace(connections);
        Ok(())
    }
}

fn parsed(url: &str) -> Result<PgConnectOptions, OpenError> {
    Ok(url.parse()?)
}
