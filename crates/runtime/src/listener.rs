//! TCP and Unix-socket listeners behind one type, for gRPC and HTTP alike.

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

/// Binds a listener and says where it really is, which matters with port 0.
///
/// # Errors
/// The address is in use, or not this machine's.
pub async fn bind(what: &str, listen: &Listen) -> anyhow::Result<(Listener, Listen)> {
    let failed = || format!("{what} cannot listen on {listen}");
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.with_context(failed)?;
            let real = Listen::Tcp(listener.local_addr().with_context(failed)?);
            Ok((Listener::Tcp(listener), real))
        }
        Listen::Unix(path) => {
            remove_stale_socket(path).with_context(failed)?;
            let listener = UnixListener::bind(path).with_context(failed)?;
            open_to_its_directory(path).with_context(failed)?;
            Ok((Listener::Unix(listener), listen.clone()))
        }
    }
}

/// Gives a socket file that was just bound the mode 0666, whatever the umask: to connect takes the right to write to the
/// file, and who may do so is to be decided by the permissions of its directory alone.
///
/// Until then the socket has what the umask left of 0777: some may find it closed for a moment, and no one finds it open who
/// should not. It is opened first, and without following a link, so that another file that was put under its name meanwhile
/// does not get the mode.
fn open_to_its_directory(path: &Path) -> anyhow::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if !socket.metadata()?.file_type().is_socket() {
        anyhow::bail!("another file has taken the place of the socket");
    }
    let opened = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::set_permissions(opened, Permissions::from_mode(0o666)).context("cannot set the mode of the socket")
}

/// A process that was killed leaves its socket file behind. Only that is removed: a socket on which nobody listens, and
/// never a file of another kind.
fn remove_stale_socket(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        anyhow::bail!("a file that is no socket is there already");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        _ => anyhow::bail!("another process listens there"),
    }
}

// === impl Listener ===

impl Listener {
    fn poll_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                // Small answers must not wait for more bytes; failing to say so costs speed only.
                let _ = stream.set_nodelay(true);
                Connection::Tcp(stream)
            }),
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| Connection::Unix(stream)),
        }
    }

    /// The connections. An error while accepting (too many open files, say) never ends the stream; it
    /// pauses it.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        tokio_stream::StreamExt::filter_map(Incoming { listener: self, pause: None }, |accepted| accepted.map(Ok))
    }
}

struct Incoming {
    listener: Listener,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Stream for Incoming {
    /// `None`: an attempt failed.
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

/// Hands a call on to whichever stream it is.
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
