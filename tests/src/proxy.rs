//! A TCP relay on loopback: a network that tests can cut, slow down and silence.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The state of the relayed network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// Everything arrives.
    Whole,
    /// Existing connections are broken, and new ones are refused.
    Cut,
    /// Nothing is delivered, but connections stay open and new ones are accepted. Held data is delivered when this
    /// state ends.
    Silent,
    /// Nothing is delivered to the target until this state ends; the other direction works.
    SilentUp,
    /// Nothing is delivered from the target until this state ends; the other direction works.
    SilentDown,
    /// Everything is delivered with this delay; up to twice the delay if other data is in flight.
    Slow(Duration),
}

/// A relay to one address; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The address on which it listens.
    pub at: SocketAddr,
    state: watch::Sender<State>,
    target: watch::Sender<SocketAddr>,
    task: JoinHandle<()>,
}

/// Cuts and resets are counted, so that connections break even if the network is whole again before their tasks run.
#[derive(Clone, Copy, Debug)]
struct State {
    network: Network,
    cuts: u64,
    resets: u64,
}

/// The direction of data.
#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Proxy {
    /// Starts a relay from a free port to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { network: Network::Whole, cuts: 0, resets: 0 });
        let (seen, target) = (state.subscribe(), watch::Sender::new(target));
        let leads_to = target.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *leads_to.borrow();
                tokio::spawn(relay(client, target, seen.clone()));
            }
        });
        Self { at, state, target, task }
    }

    /// Relays new connections to another address, and breaks the existing ones.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
        self.reset();
    }

    /// Changes the state of the network, for existing and for new connections.
    pub fn set(&self, network: Network) {
        self.state.send_modify(|state| {
            state.network = network;
            state.cuts += u64::from(network == Network::Cut);
        });
    }

    /// Breaks every existing connection by RST, at both ends. New connections are possible at once.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Network::Cut);
        self.task.abort();
    }
}

impl State {
    /// Returns the delay of data in this direction, or `None` if it is held until the state changes.
    const fn wait(self, direction: Direction) -> Option<Duration> {
        match (self.network, direction) {
            (Network::Silent, _)
            | (Network::SilentUp, Direction::Up)
            | (Network::SilentDown, Direction::Down)
            | (Network::Cut, _) => None,
            (Network::Slow(by), _) => Some(by),
            (Network::Whole | Network::SilentUp | Network::SilentDown, _) => Some(Duration::ZERO),
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let begun = *state.borrow_and_update();
    if begun.network == Network::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
    let (up, down) = (state.clone(), state.clone());
    let reset = tokio::select! {
        () = pass(client_in, server_out, up, Direction::Up) => false,
        () = pass(server_in, client_out, down, Direction::Down) => false,
        reset = until_broken(begun, state) => reset,
    };
    if reset {
        // A connection that is closed with a linger of zero ends by RST.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Waits until the connection is broken. Returns `true` if by a reset.
async fn until_broken(begun: State, mut state: watch::Receiver<State>) -> bool {
    let broken = |now: &State| now.cuts != begun.cuts || now.resets != begun.resets;
    state.wait_for(broken).await.is_ok_and(|now| now.resets != begun.resets)
}

async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>, direction: Direction) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read) else { return };
        let wait = match state.wait_for(|state| state.wait(direction).is_some()).await {
            Ok(state) => state.wait(direction).unwrap_or_default(),
            Err(_) => return,
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Data that does not arrive within this time counts as held.
    const SHORTLY: Duration = Duration::from_millis(100);

    /// Returns the two ends of a connection through a proxy.
    async fn connected() -> (Proxy, TcpStream, TcpStream) {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(target.local_addr().unwrap()).await;
        let mut near = TcpStream::connect(proxy.at).await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        arrives(&mut near, &mut far).await;
        (proxy, near, far)
    }

    async fn arrives(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        assert_eq!(to.read_u8().await.unwrap(), b'x');
    }

    async fn is_held(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        assert!(tokio::time::timeout(SHORTLY, to.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn silencing_one_direction_leaves_the_other_open_and_loses_no_data() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.set(Network::SilentUp);
        is_held(&mut near, &mut far).await;
        arrives(&mut far, &mut near).await;
        proxy.set(Network::SilentDown);
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        is_held(&mut far, &mut near).await;
        arrives(&mut near, &mut far).await;
        proxy.set(Network::Whole);
        assert_eq!(near.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_slow_network_delays_delivery() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.set(Network::Slow(SHORTLY));
        let begun = Instant::now();
        arrives(&mut near, &mut far).await;
        arrives(&mut far, &mut near).await;
        assert!(begun.elapsed() >= SHORTLY * 2);
    }

    #[tokio::test]
    async fn a_cut_or_reset_breaks_connections_even_if_undone_at_once() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.reset();
        for end in [&mut near, &mut far] {
            assert_eq!(end.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
        let (proxy, mut near, mut far) = connected().await;
        proxy.set(Network::Cut);
        proxy.set(Network::Whole);
        for end in [&mut near, &mut far] {
            assert_eq!(end.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        }
        let again = TcpStream::connect(proxy.at).await;
        assert!(again.is_ok());
    }
}
