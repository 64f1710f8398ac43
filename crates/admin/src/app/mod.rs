//! The rules of each method, free of transport: one file a method, named as in `grpc` and in the store.

pub(crate) mod accept_epoch;
pub(crate) mod activate_key;
mod caller;
pub(crate) mod create_key;
pub(crate) mod create_member;
pub(crate) mod create_project;
pub(crate) mod deactivate_key;
mod fence;
pub(crate) mod get_key;
pub(crate) mod get_member;
pub(crate) mod get_project;
pub(crate) mod grant_role;
pub(crate) mod issue_credential;
pub(crate) mod list_events;
pub(crate) mod list_keys;
pub(crate) mod list_members;
pub(crate) mod list_projects;
mod list_sdks;
pub(crate) mod lookup_key;
mod member;
mod page;
pub(crate) mod reveal_token;
pub(crate) mod revoke_credential;
pub(crate) mod revoke_role;
pub(crate) mod rotate_default_key;
pub(crate) mod rotate_key;
mod schedule;
pub(crate) mod update_key;
pub(crate) mod verify_log;
mod visible;
pub(crate) mod wait_enforced;

use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, KeyName, Permission};
use keyward_replica::AnyClock;
use keyward_store::{Call, IssuedSecret, Store};
use keyward_token::{Keyring, Token, TokenFormat};
use tokio::sync::Mutex;

pub(crate) use caller::Caller;
pub(crate) use fence::{EnforcedBy, Receipt};
pub(crate) use member::MemberView;
pub(crate) use page::{Page, PageRequest};

use crate::metrics::Metrics;
use crate::sdks::PublicUrl;
use crate::secrets::Secrets;
use crate::sync::{PeerOptions, Publisher};

/// The key-admin service, whatever it is reached through.
#[derive(Debug)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) metrics: Metrics,
    /// Held by whoever checks the log.
    pub(crate) verifying: Mutex<()>,
    pub(crate) public_url: PublicUrl,
}

/// What an [`App`] is told besides its database and its secrets.
#[derive(Clone, Debug, Default)]
pub struct AppOptions {
    /// The longest lease to agree on from now on; `None`: as the database says, or 10 s.
    pub lease: Option<Duration>,
    /// Where the API is that keys open.
    pub public_url: PublicUrl,
    /// How the admins that share the database reach each other; `None`: they do not.
    pub peers: Option<PeerOptions>,
    /// What leases are judged by.
    pub clock: AnyClock,
}

impl App {
    /// Loads the image that validators are fed from. [`crate::listen`] and [`crate::listen_in_process`] serve it;
    /// [`App::publish`] must run beside them.
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

    /// Feeds validators, and deactivates keys when their time has come, until the future is dropped.
    pub async fn publish(&self) {
        tokio::join!(Box::pin(self.publisher.run()), Box::pin(self.keep_schedules()));
    }

    /// Waits until leases can be granted. Cancel safe.
    pub async fn ready(&self) {
        self.publisher.ready().await;
    }

    /// Says that this admin leaves, once nobody is served any more: other admins over the same database need not wait for
    /// what it granted then, unless some of it is in use.
    pub async fn leave(&self) {
        self.publisher.leave().await;
    }

    /// A call that changes a key, and has no request id because doing it twice is as good as once.
    fn call_on(&self, caller: &Caller, permission: Permission, name: &KeyName) -> Call {
        Call { scope: Some(name.project.clone()), ..caller.to(permission, None) }
    }

    /// The secret of a create's answer: the new token, or on a retry the one that the first answer carried.
    fn secret_of(&self, fresh: Token, secret: IssuedSecret, uid: keyward_domain::Uid) -> Result<Option<Token>, Error> {
        match secret {
            IssuedSecret::New => Ok(Some(fresh)),
            IssuedSecret::Replayed(sealed) => self.secrets.unseal(&sealed, uid).map(Some),
            IssuedSecret::NotKept => Ok(None),
        }
    }
}
