//! TCP and Unix-socket listeners behind one type, for gRPC and HTTP.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::config::Listen;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// An accepted connection.
#[derive(Debug)]
pub enum Connection {
    /// TCP.
    Tcp(TcpStream),
    /// Unix socket.
    Unix(UnixStream),
}

/// Binds a listener. Returns it with its real address, which differs from `listen` for port 0. `name` is the listener's name
/// in errors.
///
/// # Errors
/// The address is in use or not local, or the socket file cannot be created.
pub async fn bind(name: &str, listen: &Listen) -> anyhow::Result<(Listener, Listen)> {
    let failed = || format!("{name} cannot listen on {listen}");
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.with_context(failed)?;
            let real = Listen::Tcp(listener.local_addr().with_context(failed)?);
            Ok((Listener::Tcp(listener), real))
        }
        Listen::Unix(path) => {
            remove_stale_socket(path).with_context(failed)?;
            let listener = UnixListener::bind(path).with_context(failed)?;
            allow_all_users(path).with_context(failed)?;
            Ok((Listener::Unix(listener), listen.clone()))
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
    fn poll_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                // Small answers must not wait for more bytes. A failure costs latency only, so it is ignored.
                let _ = stream.set_nodelay(true);
                Connection::Tcp(stream)
            }),
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| Connection::Unix(stream)),
        }
    }

    /// Returns the stream of connections. An error while accepting, such as too many open files, is logged and pauses the
    /// stream for 100 ms; the stream never ends.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        tokio_stream::StreamExt::filter_map(Incoming { listener: self, pause: None }, |accepted| accepted.map(Ok))
    }
}

struct Incoming {
    listener: Listener,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Stream for Incoming {
    /// `None` if an attempt to accept failed.
    type Item = Option<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match std::task::ready!(self.listener.poll_connection(cx)) {
            Ok(connection) => Poll::Ready(Some(Some(connection))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(100))));
                Poll::Ready(Some(None))
            }
        }
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Delegates a call to the inner stream.
macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
