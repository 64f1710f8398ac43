//! Heartbeats, evictions and notifications of an admin that shares its database with others.

use std::convert::Infallible;
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Error};
use keyward_protocol::Instant;
use keyward_protocol::admin::{Effect, Event};
use keyward_replica::Clock;
use keyward_store::Heartbeat;

use crate::sync::peers::{Peers, Questions};
use crate::sync::publisher::Publisher;

/// How long to wait after listening for notifications has failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

impl Publisher {
    /// Sends heartbeats until the future is dropped.
    pub(super) async fn keep_heartbeats(&self) {
        // Grants are chained to the last heartbeat, so heartbeats are as frequent as renewals.
        let interval = self.policy().renew_interval();
        // The id of the next life, should this one be evicted. It is kept for retries, so that one eviction makes one life.
        let mut next_life = AdminLife::generate();
        let mut questions = Questions::default();
        loop {
            let Some(life) = self.life() else { return };
            let asked_at = self.clock.now();
            self.handle(Event::HeartbeatSent { seen: self.store.newest_seen() });
            match self.answered(self.store.heartbeat(life)).await {
                Ok(Some(heartbeat)) => {
                    if let Some(peers) = &self.peers {
                        peers.retain(&heartbeat.nodes);
                    }
                    for effect in self.take_heartbeat(heartbeat, asked_at) {
                        match effect {
                            Effect::Evict(node) => self.evict(&node).await,
                            Effect::AskHeartbeat(node) => self.ask_heartbeat(&mut questions, &node),
                            _ => {}
                        }
                    }
                }
                Ok(None) => {
                    tracing::warn!(%life, "evicted by another admin, after a long silence; beginning a new life");
                    if self.handle(Event::Evicted).contains(&Effect::Register) && self.register(next_life).await {
                        next_life = AdminLife::generate();
                    }
                }
                Err(error) => {
                    self.metrics.heartbeat_failed();
                    let detail = error.internal_detail().unwrap_or_default();
                    tracing::warn!(detail, "no heartbeat: leases expire with the last one");
                }
            }
            let next_heartbeat = tokio::time::timeout(interval, self.send_heartbeat.notified());
            tokio::pin!(next_heartbeat);
            loop {
                tokio::select! {
                    _ = &mut next_heartbeat => break,
                    answer = questions.next() => {
                        self.handle(answer);
                    }
                }
            }
        }
    }

    /// Asks the admin in a life without heartbeats if another database server answers them.
    fn ask_heartbeat(&self, questions: &mut Questions, node: &AdminNode) {
        let asked = self.clock.now();
        // A peer that has lost its database cannot check the credential of the question, and does not answer.
        let limit = self.policy().renew_interval() * 2;
        let is_asked = self.peers.as_ref().is_some_and(|peers| peers.ask_heartbeat(questions, node, asked, limit));
        if !is_asked {
            self.handle(Event::PeerHeartbeat { life: node.life, asked, age: None });
        }
    }

    /// How long ago this admin sent the newest heartbeat that its database has answered; `None` if there is none, or if this
    /// admin is not in `life`.
    pub(crate) fn answered_heartbeat(&self, life: AdminLife) -> Option<Duration> {
        self.lock().node.answered_heartbeat(life, self.clock.now())
    }

    fn life(&self) -> Option<AdminLife> {
        self.lock().node.life()
    }

    /// Takes the answer to a heartbeat, `asked_at` being an instant before the heartbeat was sent.
    fn take_heartbeat(&self, heartbeat: Heartbeat, asked_at: Instant) -> Vec<Effect> {
        let mut feed = self.lock();
        // Counted from before the query: the wall clock then runs ahead by its duration, and never behind.
        feed.wall = (heartbeat.time, asked_at);
        let before = feed.node.peers_elsewhere();
        let event = Event::HeartbeatAnswered { log: heartbeat.head, nodes: heartbeat.nodes };
        let effects = self.handle_locked(&mut feed, event);
        let elsewhere = feed.node.peers_elsewhere();
        self.metrics.peers_elsewhere.set(i64::try_from(elsewhere).unwrap_or(i64::MAX));
        if elsewhere > before {
            tracing::error!(
                admins = elsewhere,
                "another database server answers the heartbeats of other admins: two servers take writes; no change is called \
                 enforced until one of them is stopped"
            );
        } else if before > 0 && elsewhere == 0 {
            tracing::info!("no other database server answers the heartbeats of other admins any more");
        }
        effects
    }

    /// The database's answer, within half a lease: a later answer would give a basis that is hardly of use. After that the
    /// connections may be dead, and new ones are made.
    async fn answered<T>(&self, query: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.policy().lease / 2, query).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!("the database does not answer; connecting again");
                self.store.reconnect().await?;
                self.listen_again.notify_one();
                Err(Error::store_unavailable("no answer in time"))
            }
        }
    }

    async fn evict(&self, node: &AdminNode) {
        match self.answered(self.store.evict_admin(node)).await {
            Ok(true) => tracing::info!(life = %node.life, "evicted an admin without heartbeats"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot evict an admin without heartbeats"),
        }
    }

    /// Registers a new life in the place of one that was evicted. Returns `true` if it is registered.
    async fn register(&self, life: AdminLife) -> bool {
        let (lease, address) = (self.policy().lease, self.peers.as_ref().map(Peers::address));
        match self.answered(self.store.register_admin(life, lease, address.as_deref())).await {
            Ok(()) => {
                self.handle(Event::Registered(life));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot register a new life");
                false
            }
        }
    }

    /// Ends this life on shutdown. Peers need not wait for it if none of its leases can be in use.
    pub(crate) async fn leave(&self) {
        if self.life().is_none() {
            return;
        }
        let effects = self.handle(Event::Leaving);
        let Some(Effect::Deregister(life)) = effects.first() else {
            tracing::info!("leases of this admin are in use; others will wait for them");
            return;
        };
        if let Err(error) = self.answered(self.store.deregister_admin(*life)).await {
            tracing::warn!(%error, "cannot deregister; others will wait until this admin is evicted");
        }
    }

    /// Reads the log whenever the database notifies this admin of a change, until the future is dropped.
    pub(super) async fn listen_for_notifications(&self) {
        loop {
            let listening = async {
                let mut notifications = self.store.notifications().await?;
                // Changes from before the listening began were not notified.
                self.read_log.notify_one();
                loop {
                    notifications.next().await?;
                    self.read_log.notify_one();
                }
            };
            tokio::select! {
                // The old connection may be dead without an error.
                () = self.listen_again.notified() => {}
                ended = listening => {
                    let Err::<Infallible, Error>(error) = ended;
                    tracing::warn!(%error, "no notifications from the database; changes by other admins arrive with heartbeats");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }
}
