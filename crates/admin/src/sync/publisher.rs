use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Error, LoggedChange, MemberId, Position, Revision, Uid};
use keyward_proto::replica::Grant;
use keyward_proto::replica::sync_response::Message;
use keyward_protocol::Policy;
use keyward_protocol::admin::{
    Effect, EntryKind, Event, Laggards, NoGrants, Node, NotNow, Pace, PeerMode, SessionId, Start,
};
use keyward_replica::{AnyClock, Clock};
use keyward_store::Store;
use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;
use crate::sync::feed::{Feed, Principal, Session};
use crate::sync::image::Image;
use crate::sync::peers::{PeerOptions, Peers};
use crate::sync::policy;
use crate::sync::withheld::Withheld;

/// A validator, by its member and its own id. The member is `None` for the validator in this process.
pub(super) type ValidatorKey = (Option<MemberId>, String);

/// Publishes the change log to validators: holds the node and the feed behind one mutex, passes events to the node, and carries
/// its effects out.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(super) store: Store,
    pub(super) clock: AnyClock,
    pub(super) metrics: Metrics,
    /// The admins that share the database, if they can be asked.
    pub(super) peers: Option<Peers>,
    feed: Mutex<Feed>,
    /// Validators that stayed behind.
    laggards: Mutex<Laggards<ValidatorKey>>,
    /// Wakes the task that follows the log.
    pub(super) read_log: Notify,
    /// Wakes the task that sends heartbeats.
    pub(super) send_heartbeat: Notify,
    /// Wakes the task that listens for notifications, to listen on new connections.
    pub(super) listen_again: Notify,
    /// Changes whenever a fence, a barrier of a peer, or the ability to grant may have changed.
    moved: watch::Sender<()>,
}

impl Publisher {
    /// Loads the image of all keys. `lease`: a new D to agree on, if there is one. `peers`: how to reach the other admins.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub(crate) async fn load(
        store: Store,
        metrics: Metrics,
        lease: Option<Duration>,
        peers: Option<PeerOptions>,
        clock: AnyClock,
    ) -> Result<Self, Error> {
        let peers = peers.map(Peers::new);
        let (policy, peer_mode) = if store.is_shared() {
            let policy = policy::read(&store).await?;
            // Registered before anything is read; see `PeerMode::Shared`.
            let life = AdminLife::generate();
            let address = peers.as_ref().map(Peers::address);
            store.register_admin(life, policy.lease, address.as_deref()).await?;
            (policy, PeerMode::Shared { life })
        } else {
            let agreement = policy::agree(&store, lease).await?;
            (agreement.policy, PeerMode::Alone { former_lives: agreement.former_lives })
        };
        let mut image = Image::default();
        let history = store.load_history(|entry| image.put(entry)).await?;
        let asked_at = clock.now();
        let wall = (store.now().await?, asked_at);
        let mut withheld = Withheld::default();
        withheld.extend(history.withheld);
        let start = Start {
            policy,
            head: history.head,
            accepted: history.accepted,
            forked_ago: history.forked.map(|time| wall.0.since(time)),
            peers: peer_mode,
        };
        let feed = Feed::new(Node::new(start, clock.now()), image, withheld, wall);
        let (revision, keys) = (feed.revision(), feed.image.len());
        tracing::info!(%revision, keys, lease_ms = policy.lease.as_millis(), "image loaded");
        let publisher = Self {
            store,
            clock,
            metrics,
            peers,
            feed: Mutex::new(feed),
            laggards: Mutex::default(),
            read_log: Notify::new(),
            send_heartbeat: Notify::new(),
            listen_again: Notify::new(),
            moved: watch::Sender::new(()),
        };
        publisher.record(&publisher.lock());
        Ok(publisher)
    }

    /// Follows the log, and sends heartbeats where others share the database, until the future is dropped.
    pub(crate) async fn run(&self) {
        if self.lock().node.life().is_some() {
            tokio::join!(self.follow_log(), self.keep_heartbeats(), self.listen_for_notifications());
        } else {
            self.follow_log().await;
        }
    }

    // === events and effects ===

    pub(super) fn lock(&self) -> MutexGuard<'_, Feed> {
        // A panic under the lock is a defect of its own; the data is consistent between any two statements.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an event to the node, and carries its effects out. Returns the effects that take a call to the database.
    pub(super) fn handle(&self, event: Event) -> Vec<Effect> {
        self.handle_locked(&mut self.lock(), event)
    }

    pub(super) fn handle_locked(&self, feed: &mut Feed, event: Event) -> Vec<Effect> {
        let was_in_doubt = feed.node.history().is_in_doubt();
        let effects = feed.node.handle(event, self.clock.now());
        if feed.node.history().is_in_doubt() && !was_in_doubt {
            let revision = feed.revision();
            tracing::warn!(%revision, "the database seems to have lost changes; looking for them");
        }
        effects.into_iter().filter_map(|effect| self.carry_out(feed, effect)).collect()
    }

    /// Carries an effect out, or returns it if it takes a call to the database.
    fn carry_out(&self, feed: &mut Feed, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Grant { session, seq, duration } => {
                let now = self.clock.now();
                let grant = Grant {
                    seq,
                    duration: prost_types::Duration::try_from(duration).ok(),
                    wall_time_micros: feed.wall_time(now).as_micros(),
                };
                feed.send(session, Message::Grant(grant), now);
            }
            Effect::End(session) => {
                tracing::warn!(session = session.0, "a validator's right is revoked; its session ends");
                feed.end(session);
            }
            Effect::EndAll => feed.end_all(),
            Effect::PositionSeen(position) => self.store.record_seen(position),
            Effect::ReadLog | Effect::CheckHistory => self.read_log.notify_one(),
            Effect::SendHeartbeat => self.send_heartbeat.notify_one(),
            Effect::Moved => {
                self.metrics.connected(feed.node.connected());
                self.moved.send_replace(());
            }
            Effect::Deliver(_)
            | Effect::Evict(_)
            | Effect::AskHeartbeat(_)
            | Effect::Register
            | Effect::Deregister(_)
            | Effect::Reconnect
            | Effect::Reload => return Some(effect),
        }
        None
    }

    /// Publishes changes in order, and stops at the first that conflicts with a position seen earlier. Returns `true` if none
    /// did.
    pub(super) fn publish(&self, changes: Vec<LoggedChange>) -> bool {
        let mut feed = self.lock();
        for logged in changes {
            let head = feed.node.history().head();
            let next = Position { revision: logged.revision, chain: logged.chain, ..head };
            let entry = feed.entry(&logged, self.store.conflicting_position(&next));
            if let EntryKind::EpochBegins(epoch) = entry.kind {
                tracing::error!(%epoch, "the database was found to have lost changes; its history has a new epoch");
                self.metrics.forked();
            }
            let effects = self.handle_locked(&mut feed, Event::Change(entry));
            let delivered = effects.into_iter().find_map(|effect| match effect {
                Effect::Deliver(position) => Some(position),
                _ => None,
            });
            let Some(position) = delivered else { return false };
            feed.deliver(logged, self.store.sign_position(&position), self.clock.now());
        }
        self.record(&feed);
        true
    }

    /// Records how far this admin has come, for the store and the metrics.
    pub(super) fn record(&self, feed: &Feed) {
        let history = feed.node.history();
        self.store.record_published(history.head());
        self.metrics.revision.set(history.head().revision.0);
        self.metrics.connected(feed.node.connected());
        self.metrics.history(feed.withheld.len(), history.is_accepted());
    }

    // === the log's length ===

    /// The log has grown to `revision`: reads it, and notifies the other admins in the background.
    pub(crate) fn announce(&self, revision: Revision) {
        self.read_log.notify_one();
        if let Some(peers) = &self.peers {
            peers.notify(&self.listed_peers(), revision);
        }
    }

    /// A peer announces that the log has grown to `revision`.
    pub(crate) fn peer_announced(&self, revision: Revision) {
        if self.lock().revision() < revision {
            self.read_log.notify_one();
        }
    }

    /// The other admins in the newest listing.
    pub(super) fn listed_peers(&self) -> Vec<AdminNode> {
        self.lock().node.peers().cloned().collect()
    }

    /// A receiver that changes whenever a fence, a barrier of a peer, or the ability to grant may have changed.
    pub(super) fn movements(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Waits until `revision` is published, for `limit` at most.
    pub(super) async fn reach(&self, revision: Revision, limit: Duration) {
        self.read_log.notify_one();
        let reached = async {
            let mut moved = self.movements();
            while self.lock().revision() < revision && moved.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(limit, reached).await;
    }

    // === grants ===

    /// The timing parameters that leases are granted by.
    pub(crate) fn policy(&self) -> Policy {
        *self.lock().node.policy()
    }

    /// Waits until leases can be granted. Cancel safe.
    pub(crate) async fn ready(&self) {
        let mut moved = self.movements();
        while self.why_no_grants().is_some() && moved.changed().await.is_ok() {}
    }

    /// Why no lease can be granted; `None` if one can.
    pub(crate) fn why_no_grants(&self) -> Option<&'static str> {
        let basis = self.lock().node.basis(self.clock.now());
        basis.err().map(|why| match why {
            NoGrants::InDoubt => "the database may have lost changes that validators know; finding out",
            NoGrants::StaleBasis => "the database has not answered for as long as leases last",
            NoGrants::NoBasis => "no heartbeat is committed yet",
        })
    }

    /// Records in the database that a validator of another process is about to be granted a lease. Durable on return.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub(super) async fn record_external_leases(&self) -> Result<(), Error> {
        // Where several admins share the database, each life has a row instead.
        if self.store.is_shared() { Ok(()) } else { policy::record_external_leases(&self.store).await }
    }

    /// Returns `true` if validators deny the key although the database has it as active, because a lost history denied its
    /// newest token.
    pub(crate) fn is_withheld(&self, key: &Uid) -> bool {
        self.lock().is_withheld(key, self.clock.now())
    }

    // === sessions ===

    /// Begins a session; see [`Feed::join`].
    pub(super) fn join(&self, from: Option<&Position>, principal: Option<Principal>) -> Result<Session, NotNow> {
        let mut feed = self.lock();
        let session = feed.join(from, principal)?;
        self.metrics.connected(feed.node.connected());
        Ok(session)
    }

    /// A validator has applied everything up to `revision`.
    pub(super) fn acknowledge(&self, session: SessionId, revision: Revision, pace: &mut Pace) {
        let mut feed = self.lock();
        pace.applied(revision, feed.revision());
        self.handle_locked(&mut feed, Event::Ack { session, revision });
    }

    /// A validator that has applied everything up to `applied` asks for a lease. Returns `false`, and grants none, if its session
    /// stays behind.
    pub(super) fn renew(&self, session: SessionId, seq: u64, applied: Revision, pace: &mut Pace) -> bool {
        let mut feed = self.lock();
        let published = feed.revision();
        pace.applied(applied, published);
        if pace.renews(published, self.clock.now(), feed.node.policy()) {
            return false;
        }
        self.handle_locked(&mut feed, Event::Renew { session, seq, applied });
        true
    }

    /// Records that a session of the validator stayed behind. Returns how long the validator has to wait for its next session.
    pub(super) fn stayed_behind(&self, validator: ValidatorKey) -> Duration {
        self.metrics.sessions_behind.inc();
        let policy = self.policy();
        self.laggards().add(validator, self.clock.now(), &policy)
    }

    /// Returns how long the validator has to wait for its next session; zero if it may begin now.
    pub(super) fn rest(&self, validator: &ValidatorKey) -> Duration {
        self.laggards().rest(validator, self.clock.now())
    }

    fn laggards(&self) -> MutexGuard<'_, Laggards<ValidatorKey>> {
        self.laggards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of a session is over. Its lease remains valid until it expires.
    pub(super) fn break_stream(&self, id: SessionId) {
        let mut feed = self.lock();
        feed.end(id);
        self.handle_locked(&mut feed, Event::StreamBroke(id));
    }
}
