//! A TCP relay to PostgreSQL that breaks a connection at a chosen segment of the client's data within a transaction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to the segment at which a connection breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Break {
    /// It is not sent to the server.
    Before,
    /// The server gets it, and its response is lost.
    After,
}

/// A running relay; ends when dropped.
pub(crate) struct Relay {
    /// The address on which it listens.
    pub(crate) at: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Segments that clients have sent within transactions.
    segments: AtomicU64,
    /// The segment at which its connection breaks; 0: none.
    breaks_at: AtomicU64,
    /// 1 if the server gets that segment.
    delivers: AtomicU64,
    broken: AtomicU64,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let kept = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    relay(client, server, &shared).await;
                });
            }
        });
        Self { at, shared: kept, task }
    }

    /// Breaks one connection, at the `n`th segment from now on (counted from 1).
    pub(crate) fn break_at(&self, n: u64, how: Break) {
        self.shared.broken.store(0, Ordering::SeqCst);
        self.shared.delivers.store(u64::from(how == Break::After), Ordering::SeqCst);
        self.shared.breaks_at.store(self.shared.segments.load(Ordering::SeqCst) + n, Ordering::SeqCst);
    }

    /// Breaks no further connection. Returns `true` if one was broken.
    pub(crate) fn heal(&self) -> bool {
        self.shared.breaks_at.store(0, Ordering::SeqCst);
        self.shared.broken.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut in_transaction = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { break };
                let segment = &up[..read];
                in_transaction |= contains(segment, b"BEGIN");
                if in_transaction && shared.breaks_now() {
                    if shared.delivers.load(Ordering::SeqCst) == 1 {
                        // The server has executed the statement when it answers.
                        let _ = server.write_all(segment).await;
                        let _ = server.read(&mut down).await;
                    }
                    shared.broken.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                in_transaction &= !contains(segment, b"COMMIT") && !contains(segment, b"ROLLBACK");
                if server.write_all(segment).await.is_err() { break }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { break };
                if client.write_all(&down[..read]).await.is_err() { break }
            }
        }
    }
    let _ = client.set_zero_linger();
}

impl Shared {
    /// Counts a segment. Returns `true` if its connection must break.
    fn breaks_now(&self) -> bool {
        self.segments.fetch_add(1, Ordering::SeqCst) + 1 == self.breaks_at.load(Ordering::SeqCst)
    }
}

fn contains(segment: &[u8], word: &[u8]) -> bool {
    segment.windows(word.len()).any(|window| window == word)
}
