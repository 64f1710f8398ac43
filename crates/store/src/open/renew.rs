//! A database password that changes while an admin runs.

use crate::open::error::OpenError;
use crate::open::exposure::check_exposure;
use crate::open::postgres;
use crate::open::url::{self, UrlError};
use crate::pools::Pools;
use crate::store::Store;

/// Why [`Store::renew`] did not use the new URL.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The URL must not be used.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The URL names another server or database. Another database may have another history, which an admin checks when it
    /// starts.
    #[error("the database URL names another host, port or database: that takes a restart")]
    Elsewhere,
    /// The database refuses the user or the password, or does not answer.
    #[error("{0}")]
    Open(#[from] OpenError),
}

impl Store {
    /// Connects by another URL of the same database: with another user, another password, or other TLS parameters. The old
    /// URL stays in use until a connection by the new one has succeeded.
    ///
    /// # Errors
    /// [`RenewError`]: the old URL stays in use.
    pub async fn renew(&self, url: &str, insecure_plaintext: bool) -> Result<(), RenewError> {
        let Some(server) = self.server() else { return Err(RenewError::Elsewhere) };
        check_exposure(url, insecure_plaintext)?;
        if endpoint(url)? != endpoint(server.get().get_url())? {
            return Err(RenewError::Elsewhere);
        }
        let options = postgres::options(url)?;
        let pools = Pools::connect_lazy(&options).await.map_err(OpenError::from)?;
        pools.check().await.map_err(OpenError::from)?;
        server.set(options);
        self.replace_pools(pools);
        Ok(())
    }
}

/// What identifies the database of a URL: host, port, socket, database name.
fn endpoint(url: &str) -> Result<impl PartialEq + use<>, UrlError> {
    let options = url::options(url)?;
    let (socket, database) = (options.get_socket().cloned(), options.get_database().map(str::to_owned));
    Ok((options.get_host().to_owned(), options.get_port(), socket, database))
}
