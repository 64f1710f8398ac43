//! A network that can be cut, slowed and silenced: a TCP relay on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
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
    /// Nothing arrives, and nobody is told: connections stand, new ones too. What was sent arrives when it ends.
    Silent,
    /// The same for what goes to the target only.
    SilentUp,
    /// The same for what comes from the target only.
    SilentDown,
    /// Everything arrives, each piece so much later; up to twice that when others are on their way.
    Slow(Duration),
}

/// A relay to one address; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

/// Counted, so that what was mended before anybody looked has still broken what there was.
#[derive(Clone, Copy, Debug)]
struct State {
    network: Network,
    cuts: u64,
    resets: u64,
}

/// Where a piece goes.
#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Proxy {
    /// Relays from a free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { network: Network::Whole, cuts: 0, resets: 0 });
        let seen = state.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, seen.clone()));
            }
        });
        Self { at, state, task }
    }

    /// Changes what it does, for connections that there are and for new ones.
    pub fn set(&self, network: Network) {
        self.state.send_modify(|state| {
            state.network = network;
            state.cuts += u64::from(network == Network::Cut);
        });
    }

    /// Breaks every connection by RST, at both ends; new ones can be made at once.
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
    /// How long a piece that goes there waits; `None`: until something changes.
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
        // Closed with a linger of zero, a connection ends by RST.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Whether it was broken by a reset.
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

    /// What waits longer than this does not arrive.
    const SHORTLY: Duration = Duration::from_millis(100);

    /// The two ends of a connection through a proxy.
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
    async fn silence_of_one_direction_leaves_the_other_and_loses_nothing() {
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
    async fn a_slow_network_delivers_later() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.set(Network::Slow(SHORTLY));
        let begun = Instant::now();
        arrives(&mut near, &mut far).await;
        arrives(&mut far, &mut near).await;
        assert!(begun.elapsed() >= SHORTLY * 2);
    }

    #[tokio::test]
    async fn a_cut_and_a_reset_break_what_there_is_though_they_are_mended_at_once() {
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
