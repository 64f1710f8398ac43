use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, Uid};
use keyward_replica::AnyClock;
use keyward_store::{IssuedSecret, Store};
use keyward_token::{Keyring, Token, TokenFormat};
use tokio::sync::Mutex;

use crate::metrics::Metrics;
use crate::sdks::PublicUrl;
use crate::secrets::Secrets;
use crate::sync::{PeerOptions, Publisher};

/// The key-admin service, free of any transport.
#[derive(Debug)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) metrics: Metrics,
    /// Held while a call verifies the log.
    pub(crate) verifying: Mutex<()>,
    pub(crate) public_url: PublicUrl,
}

/// Settings of an [`App`].
#[derive(Clone, Debug, Default)]
pub struct AppOptions {
    /// Length of leases, to be stored in the database. Default: the one that the database has, or 10 s.
    pub lease: Option<Duration>,
    /// Base URL of the API that keys give access to, used in the setup snippets.
    pub public_url: PublicUrl,
    /// How admins over the same database reach each other; `None` if they do not.
    pub peers: Option<PeerOptions>,
    /// The clock that leases are measured with.
    pub clock: AnyClock,
}

impl App {
    /// Loads the image of all keys, from which validators take snapshots. [`crate::listen`] and [`crate::listen_in_process`]
    /// serve the app; [`App::publish`] must run beside them.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn load(
        store: Store,
        keyring: Keyring,
        format: TokenFormat,
        metrics: Metrics,
        options: AppOptions,
    ) -> Result<Arc<Self>, Error> {
        let AppOptions { lease, public_url, peers, clock } = options;
        let secrets = Secrets::new(format, keyring);
        let publisher = Arc::new(Publisher::load(store.clone(), metrics.clone(), lease, peers, clock).await?);
        Ok(Arc::new(Self { store, secrets, publisher, metrics, verifying: Mutex::default(), public_url }))
    }

    /// Publishes changes to validators, and deactivates keys at their scheduled times, until the future is dropped.
    pub async fn publish(&self) {
        tokio::join!(Box::pin(self.publisher.run()), Box::pin(self.keep_schedules()));
    }

    /// Waits until this admin can grant leases. Cancel safe.
    pub async fn ready(&self) {
        self.publisher.ready().await;
    }

    /// Ends this admin's life in the database, after its listeners have ended. Fences of other admins then need not wait for
    /// leases that this admin granted and that are no longer in use.
    pub async fn leave(&self) {
        self.publisher.leave().await;
    }

    /// The token for the answer of a creating call: the new one, or on a retry the one of the first answer if it is
    /// stored and in use.
    pub(super) fn secret_of(&self, fresh: Token, secret: IssuedSecret, uid: Uid) -> Result<Option<Token>, Error> {
        match secret {
            IssuedSecret::New => Ok(Some(fresh)),
            IssuedSecret::Replayed(sealed) => self.secrets.unseal(&sealed, uid).map(Some),
            IssuedSecret::NotKept | IssuedSecret::Withheld => Ok(None),
        }
    }
}
