//! One admin of several over one database: it beats, so that others know that it may have leases in use; it grants no
//! further than its last heartbeat reaches; and it strikes off those that have fallen silent.

use std::convert::Infallible;
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Epoch, Error, Position, Revision};
use keyward_replica::{Barrier, Basis, Clock, Instant, Listing, Policy, Settled, Watch};
use keyward_store::{Heartbeat, Store};

use crate::sync::publisher::Publisher;

/// How long to wait before listening for hints again after that has failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What an admin knows when it shares its database; kept with the sessions, under the same lock.
#[derive(Debug)]
pub(super) struct Shared {
    /// This life's number. A new one when others have struck this one off.
    pub(super) life: AdminLife,
    /// Where the others reach this one.
    address: Option<String>,
    pub(super) basis: Basis,
    pub(super) listing: Listing,
    pub(super) settled: Settled,
    watch: Watch,
}

impl Shared {
    /// Begins a life: from here on others wait for it.
    pub(super) async fn register(store: &Store, policy: &Policy, address: Option<String>) -> Result<Self, Error> {
        let life = AdminLife::generate();
        store.register_admin(life, policy.lease, address.as_deref()).await?;
        Ok(Self {
            life,
            address,
            basis: Basis::default(),
            listing: Listing::default(),
            settled: Settled::default(),
            watch: Watch::default(),
        })
    }

    /// Lives of other admins that may have leases in use.
    pub(super) fn others(&self) -> impl Iterator<Item = &AdminNode> {
        self.listing.nodes.iter().filter(|node| node.life != self.life)
    }

    /// D' by the longest of all leases that are known to be in use.
    pub(super) fn longest_wait(&self, policy: &Policy) -> Duration {
        self.listing.longest_wait(policy)
    }

    /// Tells a fence which others there are.
    pub(super) fn tell(&self, barrier: &mut Barrier, policy: &Policy) {
        barrier.listed(self.life, &self.listing, policy);
    }

    /// Whether a revision is known to be enforced, and if so whether by acks.
    pub(super) fn look(&mut self, revision: Revision, policy: &Policy, now: Instant) -> Option<bool> {
        self.settled.listed(&self.listing, policy, now);
        self.settled.look(revision)
    }

    /// Takes a heartbeat that was sent at `sent`.
    fn beaten(&mut self, sent: Instant, pulse: Heartbeat, policy: &Policy, now: Instant) {
        self.basis.beat(sent, pulse.head.revision);
        self.listing = Listing { asked: sent, nodes: pulse.nodes };
        self.settled.listed(&self.listing, policy, now);
    }
}

/// Whether a head, as it was read afterwards, is of a history that lacks that place.
fn contradicts(head: &Position, known: &Position) -> bool {
    let lost = head.revision < known.revision || (head.revision == known.revision && head.chain != known.chain);
    // Another epoch with more in it may go on from here; the log tells.
    lost || (head.epoch != known.epoch && head.revision == known.revision)
}

/// How often an admin beats.
fn interval(policy: &Policy) -> Duration {
    // Not more seldom than validators renew: a grant is chained to the last heartbeat.
    policy.renew_interval()
}

impl Publisher {
    /// Keeps this life on record, and its grants possible, until the future is dropped. At once done when this admin has
    /// its database to itself.
    pub(super) async fn beat(&self) {
        let policy = self.policy();
        let Some(mut life) = self.with_shared(|shared| shared.life) else { return };
        // The next life, should this one be struck off: tried again, it must not become two.
        let mut next = AdminLife::generate();
        loop {
            let (epoch, known) = self.newest_known();
            let sent = self.clock().now();
            match self.answered(self.store().heartbeat(life)).await {
                Ok(Some(pulse)) => {
                    let silent = self.beaten(sent, epoch, &known, pulse, &policy);
                    self.strike_off(&silent).await;
                }
                Ok(None) => {
                    if self.live_again(life, next, &policy).await {
                        life = std::mem::replace(&mut next, AdminLife::generate());
                    }
                }
                Err(error) => {
                    self.metrics().heartbeat_failed();
                    let detail = error.internal_detail().unwrap_or_default();
                    tracing::warn!(detail, "no heartbeat: leases run out with the last one");
                }
            }
            let _ = tokio::time::timeout(interval(&policy), self.beat_now().notified()).await;
        }
    }

    /// The database's answer. One that takes longer than half a lease would give a basis that is hardly of use any more;
    /// then the connections may be dead, and all are made anew.
    async fn answered<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.policy().lease / 2;
        match tokio::time::timeout(limit, question).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!("the database does not answer; connecting anew");
                self.store().reconnect().await?;
                self.listen_again().notify_one();
                Err(Error::store_unavailable("no answer in time"))
            }
        }
    }

    /// The epoch that is followed, and the newest place that is known to be in the log: the end of what is published, or
    /// what has been committed here since.
    fn newest_known(&self) -> (Epoch, Position) {
        let state = self.lock();
        let seen = self.store().newest_seen().filter(|seen| seen.revision > state.revision);
        (state.epoch, seen.unwrap_or_else(|| state.known()))
    }

    /// Takes what a heartbeat found; returns who has fallen silent. `epoch`, `known`: [`Self::newest_known`] when it was sent,
    /// which must be in the database's history.
    fn beaten(
        &self,
        sent: Instant,
        epoch: Epoch,
        known: &Position,
        pulse: Heartbeat,
        policy: &Policy,
    ) -> Vec<AdminNode> {
        let now = self.clock().now();
        let mut state = self.lock();
        if state.epoch != epoch {
            // Asked in one history, answered in another.
            return Vec::new();
        }
        // What was published meanwhile may be beyond what the heartbeat found, and must have come by it.
        let passed = (pulse.head.revision <= state.revision).then(|| state.place_at(pulse.head.revision));
        let contradicted =
            contradicts(&pulse.head, known) || passed.flatten().is_some_and(|passed| passed.chain != pulse.head.chain);
        if !contradicted && passed == Some(None) && pulse.head != *known {
            // Too long ago to tell.
            return Vec::new();
        }
        let behind = contradicted || state.revision < pulse.head.revision;
        // Judged as of the sending: what the question takes makes the wall clock run ahead then, and never behind.
        state.wall = (pulse.time, sent);
        if contradicted {
            state.doubt();
        } else {
            // Whoever reads the log must meet it: a grant is good only behind all that was committed before the heartbeat.
            self.store().record_seen(pulse.head);
        }
        let in_doubt = state.in_doubt;
        let Some(shared) = &mut state.shared else { return Vec::new() };
        if !in_doubt {
            shared.beaten(sent, pulse, policy, now);
        }
        if let Some(peers) = self.peers() {
            peers.retain(&shared.listing.nodes);
        }
        let mut silent = shared.watch.silent(&shared.listing, policy, now);
        silent.retain(|node| node.life != shared.life);
        drop(state);
        if behind {
            self.hint();
        }
        self.moved();
        silent
    }

    async fn strike_off(&self, silent: &[AdminNode]) {
        for node in silent {
            match self.answered(self.store().evict_admin(node)).await {
                Ok(true) => tracing::info!(life = %node.life, "an admin has fallen silent; struck off"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot strike off an admin that has fallen silent"),
            }
        }
    }

    /// Others have struck this life off: they wait for its leases no longer, so there must be none. Begins another, if
    /// the database lets it.
    async fn live_again(&self, before: AdminLife, next: AdminLife, policy: &Policy) -> bool {
        self.with_shared(|shared| shared.basis.lose());
        tracing::warn!(life = %before, "struck off by another admin, after a long silence; beginning anew");
        let address = self.with_shared(|shared| shared.address.clone()).flatten();
        match self.answered(self.store().register_admin(next, policy.lease, address.as_deref())).await {
            Ok(()) => self.with_shared(|shared| shared.life = next).is_some(),
            Err(error) => {
                tracing::warn!(%error, "cannot begin anew");
                false
            }
        }
    }

    /// Ends this life in good order. Others need not wait for it if nothing that it granted can be in use.
    pub(crate) async fn leave(&self) {
        let Some(life) = self.with_shared(|shared| {
            shared.basis.lose();
            shared.life
        }) else {
            return;
        };
        // Asked after the basis is gone: nothing more can be granted.
        if self.lock().sessions.in_use(self.clock().now()) {
            tracing::info!("leases of this admin are in use; others will wait for them");
            return;
        }
        if let Err(error) = self.answered(self.store().deregister_admin(life)).await {
            tracing::warn!(%error, "cannot deregister; others will wait until this admin counts as silent");
        }
    }

    /// Looks at the log whenever somebody else has changed it, until the future is dropped.
    pub(super) async fn listen_for_hints(&self) {
        loop {
            let heard = async {
                let mut hints = self.store().notifications().await?;
                // What came before the listening began nobody has said.
                self.hint();
                loop {
                    hints.next().await?;
                    self.hint();
                }
            };
            tokio::select! {
                // On new connections: the old one may be dead, which nobody would tell.
                () = self.listen_again().notified() => {}
                ended = heard => {
                    let Err::<Infallible, Error>(error) = ended;
                    tracing::warn!(%error, "no hints from the database; changes by other admins arrive with heartbeats");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }
}
