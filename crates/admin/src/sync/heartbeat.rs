//! One admin of several over one database: it beats, so that others know that it may have leases in use; it grants no
//! further than its last heartbeat reaches; and it strikes off those that have fallen silent.

use std::convert::Infallible;
use std::time::Duration;

use keyward_domain::{AdminNode, Error, Uid};
use keyward_replica::{Barrier, Basis, BootClock, Clock, Instant, Listing, Policy, Settled, Watch};
use keyward_store::{Pulse, Store};

use crate::sync::publisher::Publisher;

/// How long to wait before listening for hints again after that has failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What an admin knows when it shares its database; kept with the sessions, under the same lock.
#[derive(Debug)]
pub(super) struct Shared {
    /// This life's number. A new one when others have struck this one off.
    pub(super) incarnation: Uid,
    pub(super) basis: Basis,
    pub(super) listing: Listing,
    pub(super) settled: Settled,
    watch: Watch,
    /// The database is not the one that validators were fed from.
    forked: bool,
}

impl Shared {
    /// Begins a life: from here on others wait for it.
    pub(super) async fn register(store: &Store, policy: &Policy) -> Result<Self, Error> {
        let incarnation = Uid::generate();
        store.register_admin(incarnation, policy.lease).await?;
        Ok(Self {
            incarnation,
            basis: Basis::default(),
            listing: Listing::default(),
            settled: Settled::default(),
            watch: Watch::default(),
            forked: false,
        })
    }

    /// D' by the longest of all leases that are known to be in use.
    pub(super) fn longest_wait(&self, policy: &Policy) -> Duration {
        self.listing.nodes.iter().map(|node| policy.held(node.lease)).fold(policy.wait_out(), Duration::max)
    }

    /// Tells a fence which others there are.
    pub(super) fn tell(&self, barrier: &mut Barrier, policy: &Policy) {
        barrier.listed(self.incarnation, &self.listing, policy);
    }
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
        let Some(mut incarnation) = self.with_shared(|shared| shared.incarnation) else { return };
        loop {
            let sent = BootClock.now();
            // What takes longer would give a basis that is hardly of use any more.
            let beaten = tokio::time::timeout(policy.lease / 2, self.store().heartbeat(incarnation)).await;
            match beaten.unwrap_or_else(|_| Err(Error::store_unavailable("no answer to a heartbeat"))) {
                Ok(Some(pulse)) => self.strike_off(&self.beaten(sent, pulse, &policy)).await,
                Ok(None) => incarnation = self.live_again(incarnation, &policy).await,
                Err(error) => {
                    self.metrics().heartbeat_failed();
                    let detail = error.internal_detail().unwrap_or_default();
                    tracing::warn!(detail, "no heartbeat: leases run out with the last one");
                }
            }
            let _ = tokio::time::timeout(interval(&policy), self.beat_now().notified()).await;
        }
    }

    /// Takes what a heartbeat found; returns who has fallen silent.
    fn beaten(&self, sent: Instant, pulse: Pulse, policy: &Policy) -> Vec<AdminNode> {
        let now = BootClock.now();
        let mut state = self.lock();
        let behind = state.revision < pulse.head.revision;
        let forked = pulse.head.epoch.to_string() != self.epoch() || state.is_contradicted_by(&pulse.head);
        // Judged as of the sending: what the question takes makes the wall clock run ahead then, and never behind.
        state.wall = (pulse.time, sent);
        let Some(shared) = &mut state.shared else { return Vec::new() };
        if forked && !shared.forked {
            // A restored backup, or a server that took over without the last changes.
            tracing::error!(
                revision = %pulse.head.revision,
                "the database has lost changes that validators know; no more leases by this admin"
            );
        }
        shared.forked |= forked;
        if shared.forked {
            shared.basis.lose();
        } else {
            shared.basis.beat(sent, pulse.head.revision);
        }
        shared.listing = Listing { asked: sent, nodes: pulse.nodes };
        let mut silent = shared.watch.silent(&shared.listing, policy, now);
        silent.retain(|node| node.incarnation != shared.incarnation);
        drop(state);
        if behind {
            self.hint();
        }
        self.moved();
        silent
    }

    async fn strike_off(&self, silent: &[AdminNode]) {
        for node in silent {
            match self.store().strike_off_admin(node).await {
                Ok(true) => tracing::info!(incarnation = %node.incarnation, "an admin has fallen silent; struck off"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot strike off an admin that has fallen silent"),
            }
        }
    }

    /// Others have struck this life off: they wait for its leases no longer, so there must be none. Begins another.
    async fn live_again(&self, before: Uid, policy: &Policy) -> Uid {
        self.with_shared(|shared| shared.basis.lose());
        tracing::warn!(incarnation = %before, "struck off by another admin, after a long silence; beginning anew");
        let next = Uid::generate();
        match self.store().register_admin(next, policy.lease).await {
            Ok(()) => {
                self.with_shared(|shared| shared.incarnation = next);
                next
            }
            Err(error) => {
                tracing::warn!(%error, "cannot begin anew");
                before
            }
        }
    }

    /// Ends this life in good order. Others need not wait for it if nothing that it granted can be in use.
    pub(crate) async fn leave(&self) {
        let Some(incarnation) = self.with_shared(|shared| {
            shared.basis.lose();
            shared.incarnation
        }) else {
            return;
        };
        // Asked after the basis is gone: nothing more can be granted.
        if self.lock().sessions.in_use(BootClock.now()) {
            tracing::info!("leases of this admin are in use; others will wait for them");
            return;
        }
        if let Err(error) = self.store().deregister_admin(incarnation).await {
            tracing::warn!(%error, "cannot deregister; others will wait until this admin counts as silent");
        }
    }

    /// Looks at the log whenever somebody else has changed it, until the future is dropped.
    pub(super) async fn listen_for_hints(&self) {
        loop {
            let heard = async {
                let mut hints = self.store().hints().await?;
                // What came before the listening began nobody has said.
                self.hint();
                loop {
                    hints.next().await?;
                    self.hint();
                }
            };
            let ended: Result<Infallible, Error> = heard.await;
            let Err(error) = ended;
            tracing::warn!(%error, "no hints from the database; changes by other admins arrive with heartbeats");
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }
}
