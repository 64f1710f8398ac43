use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use keyward_domain::Remote;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::backoff::start_anywhere;
use crate::upstream::{CONNECT_TIMEOUT, Upstream};

/// The longest time to resolve the name of an admin.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The shortest time that is left to one of many addresses to accept a connection: a round trip around the world.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(250);

/// The candidates for a session: every address of every admin of an [`Upstream`].
///
/// `127.0.0.1` and `::1` are one candidate, because they lead to one process: `localhost` has both.
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
    /// The candidates of each name when it was last resolved; none before that.
    known: Arc<[Mutex<Vec<Candidate>>]>,
    /// Where the order of a name's addresses begins: random, so that validators spread over them.
    start: usize,
    resolver: Resolver,
}

/// The addresses of one candidate; at least one.
type Candidate = Vec<SocketAddr>;

/// Where a session was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Connected {
    /// The index of the admin in the list of the upstream.
    admin: usize,
    /// `None` if this process does not resolve names: in a simulation, and for the admin in this process.
    address: Option<SocketAddr>,
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
        let known = (0..upstream.count()).map(|_| Mutex::default()).collect();
        Self { upstream, known, start: start_anywhere(usize::MAX), resolver: Resolver::System }
    }

    /// The number of candidates that are known; at least 1.
    pub(super) fn count(&self) -> usize {
        (0..self.known.len()).map(|admin| self.count_of(admin)).sum::<usize>().max(1)
    }

    /// Returns `true` if the turn chooses the candidate that a session was opened at. That can be another one than its turn
    /// had chosen, which refused the connection.
    pub(super) fn leads_to(&self, turn: usize, connected: Connected) -> bool {
        let (admin, nth) = self.place(turn);
        let candidates = self.candidates_of(admin);
        let chosen = in_turn(&candidates, self.start.wrapping_add(nth)).next();
        match (chosen, connected.address) {
            (Some(chosen), Some(address)) => chosen.iter().any(|own| leads_to_one_process(own, &address)),
            _ => admin == connected.admin,
        }
    }

    /// Connects to the candidate of this turn. If it refuses the connection, connects to the next address of the same name.
    /// Returns a text for logs that names the admin.
    pub(super) async fn connect(&self, turn: usize) -> anyhow::Result<(Channel, Connected, String)> {
        let (admin, nth) = self.place(turn);
        let Some(remote) = self.upstream.named(admin) else {
            let (channel, shown) = self.upstream.connect(admin).await?;
            return Ok((channel, Connected { admin, address: None }, shown));
        };
        let candidates = grouped(self.resolver.addresses(remote).await?);
        if let Some(known) = self.known.get(admin) {
            known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&candidates);
        }
        let addresses: Vec<_> = in_turn(&candidates, self.start.wrapping_add(nth)).flatten().copied().collect();
        let (begun, mut refused) = (Instant::now(), None);
        for address in &addresses {
            match self.upstream.connect_to(remote, *address, timeout_of_each(addresses.len())).await {
                Ok(channel) => {
                    let shown =
                        if candidates.len() == 1 { remote.to_string() } else { format!("{remote} at {address}") };
                    return Ok((channel, Connected { admin, address: Some(*address) }, shown));
                }
                Err(error) => refused = Some(error),
            }
            // The next attempt begins with another candidate.
            if begun.elapsed() >= CONNECT_TIMEOUT {
                break;
            }
        }
        Err(refused.context("its name has no address")?).with_context(|| format!("cannot reach the admin at {remote}"))
    }

    /// The credential for a new connection, read again from its source; `None` for the admin in this process.
    pub(super) async fn authorization(&self) -> Option<MetadataValue<Ascii>> {
        self.upstream.authorization().await
    }

    /// The admin of a turn, and which of its candidates.
    fn place(&self, turn: usize) -> (usize, usize) {
        let mut nth = turn % self.count();
        for admin in 0..self.known.len() {
            let count = self.count_of(admin);
            if nth < count {
                return (admin, nth);
            }
            nth -= count;
        }
        (0, 0)
    }

    fn candidates_of(&self, admin: usize) -> Vec<Candidate> {
        let known = self.known.get(admin);
        known.map(|known| known.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// The number of candidates of an admin; 1 before its name was resolved.
    fn count_of(&self, admin: usize) -> usize {
        self.candidates_of(admin).len().max(1)
    }
}

/// The time for each of `count` addresses to accept a connection.
fn timeout_of_each(count: usize) -> Duration {
    let share = u32::try_from(count.max(1)).map_or(Duration::ZERO, |count| CONNECT_TIMEOUT / count);
    share.max(SHORTEST_TIMEOUT)
}

/// Puts the addresses that lead to one process together.
fn grouped(addresses: Vec<SocketAddr>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for address in addresses {
        match candidates.iter_mut().find(|own| own.iter().any(|own| leads_to_one_process(own, &address))) {
            Some(own) => own.push(address),
            None => candidates.push(vec![address]),
        }
    }
    candidates
}

/// Returns `true` if both are the same address, or `127.0.0.1` and `::1` with the same port.
fn leads_to_one_process(one: &SocketAddr, other: &SocketAddr) -> bool {
    let is_localhost =
        |at: &SocketAddr| [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&at.ip());
    one == other || (is_localhost(one) && is_localhost(other) && one.port() == other.port())
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

/// All candidates, beginning with the one of this turn.
fn in_turn(candidates: &[Candidate], turn: usize) -> impl Iterator<Item = &Candidate> {
    let first = turn % candidates.len().max(1);
    candidates.iter().cycle().skip(first).take(candidates.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::authorization::Authorization;
    use crate::connector::Connector;

    /// Addresses of other machines.
    fn far(ports: std::ops::Range<u16>) -> Vec<SocketAddr> {
        ports.map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
    }

    fn alone(addresses: Vec<SocketAddr>) -> Vec<Candidate> {
        addresses.into_iter().map(|address| vec![address]).collect()
    }

    #[test]
    fn turns_go_through_every_address_of_every_admin() {
        let known = [alone(far(1..4)), Vec::new(), alone(far(11..13))].map(Mutex::new).into_iter().collect();
        let upstream = Upstream::InProcess(mpsc::channel(1).0);
        let candidates = Candidates { upstream, known, start: 0, resolver: Resolver::System };
        let places: Vec<_> = (0..7).map(|turn| candidates.place(turn)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (0, 0)]);
        assert_eq!(candidates.count(), 6);
        let at = |admin, port| Connected { admin, address: Some(SocketAddr::from(([192, 0, 2, 1], port))) };
        assert!(candidates.leads_to(1, at(0, 2)) && candidates.leads_to(7, at(0, 2)));
        // The first address had refused the connection.
        assert!(!candidates.leads_to(0, at(0, 2)));
        // Another name leads to the same address.
        assert!(candidates.leads_to(4, at(0, 11)) && !candidates.leads_to(5, at(0, 11)));
        assert!(candidates.leads_to(3, at(1, 99)) && !candidates.leads_to(3, at(0, 1)));
        // The name has fewer addresses now.
        candidates.known[0].lock().unwrap().truncate(1);
        assert_eq!((candidates.count(), candidates.place(6)), (4, (2, 0)));
    }

    #[test]
    fn an_attempt_begins_with_the_candidate_of_its_turn_and_has_them_all() {
        let candidates = alone(far(1..4));
        let ports = |turn| in_turn(&candidates, turn).map(|own| own[0].port()).collect::<Vec<_>>();
        assert_eq!((ports(0), ports(2), ports(3)), (vec![1, 2, 3], vec![3, 1, 2], vec![1, 2, 3]));
        assert_eq!(in_turn(&[], 5).count(), 0);
    }

    #[test]
    fn both_addresses_of_localhost_are_one_candidate() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (v4, v6, away) = (parse("127.0.0.1:8510"), parse("[::1]:8510"), parse("192.0.2.1:8510"));
        assert_eq!(grouped(vec![v4, away, v6]), [vec![v4, v6], vec![away]]);
        for other in [parse("127.0.0.1:8511"), parse("127.0.0.2:8510")] {
            assert_eq!(grouped(vec![v4, other]), [vec![v4], vec![other]]);
        }
    }

    #[test]
    fn each_of_many_addresses_has_time_to_accept_a_connection() {
        assert_eq!(timeout_of_each(0), CONNECT_TIMEOUT);
        assert_eq!(timeout_of_each(1), CONNECT_TIMEOUT);
        assert_eq!(timeout_of_each(4), CONNECT_TIMEOUT / 4);
        for many in [8, 9, 1_000, usize::MAX] {
            assert_eq!(timeout_of_each(many), SHORTEST_TIMEOUT, "{many}");
        }
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
            let (_channel, _, shown) = candidates.connect(turn).await.unwrap();
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
