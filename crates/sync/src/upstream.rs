use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use keyward_domain::Remote;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::authorization::Authorization;
use crate::connector::Connector;

/// The buffer of the in-process channel, in bytes.
const IN_PROCESS_BUFFER: usize = 64 << 10;

/// The longest time to open a connection to an admin.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The admins that a replica is fed by.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Admins over the network. If one fails, the next one is tried. A name with several addresses stands for several admins.
    Remote {
        /// Their addresses; at least one.
        admins: Vec<Remote>,
        /// The credential that is presented to them.
        authorization: Authorization,
        /// How connections are made.
        connector: Connector,
    },
    /// The admin in the same process, which accepts connections from this channel.
    InProcess(mpsc::Sender<DuplexStream>),
}

impl Upstream {
    /// The number of admins.
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Remote { admins, .. } => admins.len(),
            Self::InProcess(_) => 1,
        }
    }

    /// The admin with that index, if its name is resolved by this process: not in a simulation, and not in the same process.
    pub(super) fn named(&self, index: usize) -> Option<&Remote> {
        match self {
            Self::Remote { admins, connector, .. } if connector.is_tcp() => admins.get(index),
            Self::Remote { .. } | Self::InProcess(_) => None,
        }
    }

    /// Connects to one address of an admin.
    ///
    /// # Errors
    /// No connection could be made within `timeout`.
    pub(super) async fn connect_to(
        &self,
        admin: &Remote,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Channel, tonic::transport::Error> {
        // Requests carry the name that was configured, as before it was resolved.
        let name = endpoint(admin)?.uri().clone();
        let endpoint = hardened(Endpoint::from_shared(format!("http://{address}"))?).origin(name);
        endpoint.connect_timeout(timeout).connect().await
    }

    /// Connects to the admin with that index. Returns its address too.
    pub(super) async fn connect(&self, index: usize) -> anyhow::Result<(Channel, String)> {
        match self {
            Self::Remote { admins, connector, .. } => {
                let admin = admins.get(index).context("no admin is configured")?;
                let channel = connector.connect(&hardened(endpoint(admin)?)).await;
                Ok((channel.with_context(|| format!("cannot reach the admin at {admin}"))?, admin.to_string()))
            }
            Self::InProcess(sender) => {
                let sender = sender.clone();
                let connector = tower::service_fn(move |_: Uri| {
                    let sender = sender.clone();
                    async move {
                        let (ours, theirs) = tokio::io::duplex(IN_PROCESS_BUFFER);
                        let gone = |_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                        sender.send(theirs).await.map_err(gone)?;
                        Ok::<_, std::io::Error>(TokioIo::new(ours))
                    }
                });
                // The address is used for the HTTP/2 :authority only.
                let endpoint = Endpoint::from_static("http://in-process");
                let channel = hardened(endpoint).connect_with_connector(connector).await?;
                Ok((channel, "the admin in this process".to_owned()))
            }
        }
    }

    /// The credential for a new connection, read again from its source; `None` for the admin in this process.
    pub(super) async fn authorization(&self) -> Option<MetadataValue<Ascii>> {
        let Self::Remote { authorization, .. } = self else { return None };
        authorization.read_again().await;
        Some(authorization.current())
    }
}

/// A connection to an admin that is made when it is first used, and again after it broke.
///
/// # Errors
/// The transport cannot use the address.
pub fn lazy_channel(admin: &Remote, connector: &Connector) -> Result<Channel, tonic::transport::Error> {
    Ok(connector.connect_lazy(&hardened(endpoint(admin)?)))
}

fn endpoint(admin: &Remote) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(admin.to_string())
}

fn hardened(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
