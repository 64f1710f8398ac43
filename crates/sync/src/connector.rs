use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

/// A stream of bytes to another process.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Makes connections to other processes: over TCP, or over a simulated network. Cheap to clone.
#[derive(Clone, Default)]
pub struct Connector(Option<Arc<dyn Fn(Uri) -> Connecting + Send + Sync>>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Connector(…)" } else { "Connector(TCP)" })
    }
}

impl Connector {
    /// Connects by other means than TCP.
    #[cfg(feature = "simulation")]
    pub fn by(connect: impl Fn(Uri) -> Connecting + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(connect)))
    }

    /// Returns `true` if connections are made over TCP, to addresses that this process resolves.
    pub(super) const fn is_tcp(&self) -> bool {
        self.0.is_none()
    }

    /// Connects.
    ///
    /// # Errors
    /// No connection could be made.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        match self.0.clone() {
            Some(connect) => endpoint.connect_with_connector(tower::service_fn(move |uri| wrapped(connect(uri)))).await,
            None => endpoint.connect().await,
        }
    }

    /// Connects when the channel is first used, and again after the connection broke.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match self.0.clone() {
            Some(connect) => endpoint.connect_with_connector_lazy(tower::service_fn(move |uri| wrapped(connect(uri)))),
            None => endpoint.connect_lazy(),
        }
    }
}

async fn wrapped(connecting: Connecting) -> io::Result<TokioIo<Box<dyn Io>>> {
    connecting.await.map(TokioIo::new)
}
