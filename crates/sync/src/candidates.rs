use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use keyward_domain::Remote;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::backoff::start_anywhere;
use crate::upstream::{CONNECT_TIMEOUT, Upstream};

/// The longest time to resolve the name of an admin.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The candidates for a session: every address of every admin of an [`Upstream`].
///
/// A candidate is chosen by a turn, a number that grows with each attempt. Turns go through the admins in the order of their
/// list, and through all addresses of one name before the next name. So an address that accepts connections and never answers
/// costs one attempt, and the next one uses another address.
///
/// A name is resolved again for each attempt, because its addresses change when admins are replaced. Cheap to clone; all clones
/// share what is known about the names.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    upstream: Upstream,
    /// How many addresses each name had when it was last resolved; 1 before that.
    addresses: Arc<[AtomicUsize]>,
    /// Where the order of a name's addresses begins: random, so that validators spread over them.
    start: usize,
    resolver: Resolver,
}

/// Finds the addresses of a name.
#[derive(Clone, Debug)]
enum Resolver {
    /// By the operating system.
    System,
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

impl Candidates {
    pub(super) fn new(upstream: Upstream) -> Self {
        let addresses = (0..upstream.count()).map(|_| AtomicUsize::new(1)).collect();
        Self { upstream, addresses, start: start_anywhere(usize::MAX), resolver: Resolver::System }
    }

    /// The number of candidates that are known; at least 1.
    pub(super) fn count(&self) -> usize {
        self.addresses.iter().map(known).sum::<usize>().max(1)
    }

    /// Returns `true` if both turns choose the same candidate.
    pub(super) fn are_same(&self, turn: usize, other: usize) -> bool {
        self.place(turn) == self.place(other)
    }

    /// Connects to the candidate of this turn. If it refuses the connection, connects to the next address of the same name.
    /// Returns a text for logs that names the admin.
    pub(super) async fn connect(&self, turn: usize) -> anyhow::Result<(Channel, String)> {
        let (admin, nth) = self.place(turn);
        let Some(remote) = self.upstream.named(admin) else { return self.upstream.connect(admin).await };
        let addresses = self.resolver.addresses(remote).await?;
        let count = addresses.len();
        if let Some(known) = self.addresses.get(admin) {
            known.store(count, Ordering::Relaxed);
        }
        let mut refused = None;
        for address in in_turn(&addresses, self.start.wrapping_add(nth)) {
            match self.upstream.connect_to(remote, address, CONNECT_TIMEOUT / u32::try_from(count)?).await {
                Ok(channel) if count == 1 => return Ok((channel, remote.to_string())),
                Ok(channel) => return Ok((channel, format!("{remote} at {address}"))),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.context("its name has no address")?).with_context(|| format!("cannot reach the admin at {remote}"))
    }

    /// The credential for a new connection, read again from its source; `None` for the admin in this process.
    pub(super) async fn authorization(&self) -> Option<MetadataValue<Ascii>> {
        self.upstream.authorization().await
    }

    /// The admin of a turn, and which of its addresses.
    fn place(&self, turn: usize) -> (usize, usize) {
        let mut nth = turn % self.count();
        for (admin, count) in self.addresses.iter().map(known).enumerate() {
            if nth < count {
                return (admin, nth);
            }
            nth -= count;
        }
        (0, 0)
    }
}

fn known(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed).max(1)
}

impl Resolver {
    async fn addresses(&self, admin: &Remote) -> anyhow::Result<Vec<SocketAddr>> {
        match self {
            Self::System => resolve(admin).await,
            #[cfg(test)]
            Self::Fixed(addresses) => Ok(addresses.clone()),
        }
    }
}

/// The addresses of an admin, in an order that does not depend on the order of the resolver's answer.
async fn resolve(admin: &Remote) -> anyhow::Result<Vec<SocketAddr>> {
    let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(admin.authority())).await;
    let resolved = resolved.map_err(anyhow::Error::from).and_then(|found| Ok(found?));
    let mut addresses: Vec<_> = resolved.with_context(|| format!("cannot resolve the name of {admin}"))?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// All addresses, beginning with the one of this turn.
fn in_turn(addresses: &[SocketAddr], turn: usize) -> impl Iterator<Item = SocketAddr> {
    let first = turn % addresses.len().max(1);
    addresses.iter().cycle().skip(first).take(addresses.len()).copied()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::authorization::Authorization;
    use crate::connector::Connector;

    #[test]
    fn turns_go_through_every_address_of_every_admin() {
        let counts: Arc<[AtomicUsize]> = [3, 1, 2].into_iter().map(AtomicUsize::new).collect();
        let upstream = Upstream::InProcess(mpsc::channel(1).0);
        let candidates = Candidates { upstream, addresses: counts, start: 0, resolver: Resolver::System };
        let places: Vec<_> = (0..7).map(|turn| candidates.place(turn)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (0, 0)]);
        assert!(candidates.are_same(1, 7) && !candidates.are_same(1, 2));
        assert_eq!(candidates.count(), 6);
        // The name has fewer addresses now.
        candidates.addresses[0].store(1, Ordering::Relaxed);
        assert_eq!((candidates.count(), candidates.place(6)), (4, (2, 0)));
    }

    #[test]
    fn an_attempt_begins_with_the_address_of_its_turn_and_has_them_all() {
        let addresses: Vec<SocketAddr> = (1..4).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let ports = |turn| in_turn(&addresses, turn).map(|address| address.port()).collect::<Vec<_>>();
        assert_eq!((ports(0), ports(2), ports(3)), (vec![1, 2, 3], vec![3, 1, 2], vec![1, 2, 3]));
        assert_eq!(in_turn(&[], 5).count(), 0);
    }

    #[tokio::test]
    async fn consecutive_attempts_use_every_address_of_a_name_and_a_refused_one_costs_no_attempt() {
        let listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let [first, second] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let mut counts = [0; 2];
        // Both accept connections and never answer.
        let (candidates, attempts) = (of_name(vec![first, refused, second]), 6);
        for turn in 0..attempts {
            let (_channel, shown) = candidates.connect(turn).await.unwrap();
            assert!(shown.starts_with("http://admins.test:8510 at "), "{shown}");
            for (count, at) in counts.iter_mut().zip([first, second]) {
                *count += usize::from(shown.ends_with(&at.to_string()));
            }
        }
        assert_eq!(candidates.count(), 3);
        assert!(counts[0] >= 2 && counts[1] >= 2 && counts[0] + counts[1] == attempts, "{counts:?}");
        let error = of_name(vec![refused]).connect(0).await.err().unwrap();
        assert!(format!("{error:#}").starts_with("cannot reach the admin at http://admins.test:8510: "), "{error:#}");
        assert!(of_name(Vec::new()).connect(0).await.is_err());
    }

    /// The candidates of one admin whose name has these addresses.
    fn of_name(addresses: Vec<SocketAddr>) -> Candidates {
        let credential = format!("kwm_{}{}", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "02yAN1");
        let authorization = Authorization::fixed(&credential).unwrap();
        let admins = vec!["http://admins.test:8510".parse().unwrap()];
        let upstream = Upstream::Remote { admins, authorization, connector: Connector::default() };
        Candidates { resolver: Resolver::Fixed(addresses), ..Candidates::new(upstream) }
    }

    #[tokio::test]
    async fn an_ip_address_is_its_only_address() {
        let admin: Remote = "http://[::1]:8510".parse().unwrap();
        assert_eq!(resolve(&admin).await.unwrap(), ["[::1]:8510".parse().unwrap()]);
    }
}
