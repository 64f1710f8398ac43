//! TCP and Unix-socket listeners behind one type, for gRPC and HTTP.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream::unfold;
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::config::Listen;
use crate::connections::{ConnectionLimits, ConnectionState, Connections, Slot};

/// The first pause after a failed attempt to accept a connection, such as for want of file descriptors. It doubles up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    connections: Arc<Connections>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection. Reading fails once the listener has closed it, by the limits of the listener.
#[derive(Debug)]
pub struct Connection {
    stream: Transport,
    slot: Slot,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Binds a listener. Returns it with its real address, which differs from `listen` for port 0. `name` is the listener's name
/// in errors, such as `the admin API`; `label` names it in metrics, such as `admin`.
///
/// # Errors
/// The address is in use or not local, or the socket file cannot be created.
pub async fn bind(
    name: &str,
    label: &'static str,
    listen: &Listen,
    limits: ConnectionLimits,
) -> anyhow::Result<(Listener, Listen)> {
    let bound = |socket| Listener { socket, connections: Connections::new(label, limits) };
    let failed = || format!("{name} cannot listen on {listen}");
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.with_context(failed)?;
            let real = Listen::Tcp(listener.local_addr().with_context(failed)?);
            Ok((bound(Socket::Tcp(listener)), real))
        }
        Listen::Unix(path) => {
            remove_stale_socket(path).with_context(failed)?;
            let listener = UnixListener::bind(path).with_context(failed)?;
            allow_all_users(path).with_context(failed)?;
            Ok((bound(Socket::Unix(listener)), listen.clone()))
        }
    }
}

/// Gives a newly bound socket file the mode 0666, whatever the umask. Connecting requires write permission on the file; the
/// permissions of its directory alone shall decide who may connect.
///
/// Before this call the socket has the mode 0777 minus the umask, which never allows more users than afterwards. The file is
/// opened first, without following links, so that the mode is not applied to another file that took its name.
fn allow_all_users(path: &Path) -> anyhow::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if !socket.metadata()?.file_type().is_socket() {
        anyhow::bail!("another file has replaced the socket");
    }
    let opened = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::set_permissions(opened, Permissions::from_mode(0o666)).context("cannot set the mode of the socket")
}

/// Removes the socket file that a killed process left behind. Fails if another process listens on the socket, or if the file
/// is not a socket.
fn remove_stale_socket(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        anyhow::bail!("the path exists and is not a socket");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        _ => anyhow::bail!("another process listens on it"),
    }
}

// === impl Listener ===

impl Listener {
    /// Returns the stream of connections, which never ends. A failed attempt to accept, such as with too many open files, is
    /// logged and pauses the stream. A connection that finds no slot is closed.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self, |listener| async move {
            let connection = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }

    async fn accept(&self) -> Connection {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.socket.accept().await {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    if let Some(slot) = self.connections.admit().await {
                        return Connection { stream, slot };
                    }
                }
                // The client has gone: that concerns no other connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept a connection");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Transport> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Small answers must not wait for more bytes. A failure costs latency only, so it is ignored.
                let _ = stream.set_nodelay(true);
                Transport::Tcp(stream)
            }),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Transport::Unix(stream)),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// The state that the listener, the requests and the socket of this connection share.
    pub fn state(&self) -> Arc<ConnectionState> {
        Arc::clone(self.slot.state())
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<ConnectionState>;

    fn connect_info(&self) -> Arc<ConnectionState> {
        self.state()
    }
}

/// Delegates a call to the inner stream.
macro_rules! delegate {
    ($connection:expr, $stream:ident => $call:expr) => {
        match &mut $connection.stream {
            Transport::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Transport::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        connection.slot.poll_end(cx)?;
        let before = buf.filled().len();
        let read = delegate!(connection, stream => stream.poll_read(cx, buf));
        connection.slot.received(buf.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        // HTTP/2 does not read while it cannot write.
        connection.slot.poll_closed(cx)?;
        delegate!(connection, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        connection.slot.poll_closed(cx)?;
        delegate!(connection, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
