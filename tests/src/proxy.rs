//! A network that can be cut: a TCP relay on loopback.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a relay does with what it is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// Everything arrives.
    Whole,
    /// Connections are broken, and none can be made.
    Cut,
    /// Nothing arrives, and nobody is told: connections stand, new ones too.
    Silent,
}

/// A relay to one address; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    network: watch::Sender<Network>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Relays from a free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let network = watch::Sender::new(Network::Whole);
        let state = network.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, state.clone()));
            }
        });
        Self { at, network, task }
    }

    /// Changes what it does, for connections that there are and for new ones.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Breaks every connection; new ones can be made at once.
    pub fn reset(&self) {
        self.set(Network::Cut);
        self.set(Network::Whole);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Network::Cut);
        self.task.abort();
    }
}

async fn relay(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<Network>) {
    if *state.borrow_and_update() == Network::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
    let (up, down) = (state.clone(), state.clone());
    tokio::select! {
        () = pass(client_in, server_out, up) => {}
        () = pass(server_in, client_out, down) => {}
        () = until_cut(state) => {}
    }
}

/// A cut that was mended before anybody looked has still broken what there was: every change but to silence and back
/// goes through `Cut`.
async fn until_cut(mut state: watch::Receiver<Network>) {
    let mut before = *state.borrow();
    while state.changed().await.is_ok() {
        let now = *state.borrow_and_update();
        if now == Network::Cut || now == before {
            return;
        }
        before = now;
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Network>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|network| *network != Network::Silent).await.is_err() {
            return;
        }
        let Some(bytes) = buffer.get(..read) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
