use std::collections::BTreeMap;
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Epoch, Position, Revision};

use crate::admin::basis::Basis;
use crate::admin::cluster::Cluster;
use crate::admin::event::{Effect, EntryKind, Event, Joined, LogEntry, NoGrants, NotNow, PeerMode, Start};
use crate::admin::fence::{Fence, FenceId};
use crate::admin::history::{History, Known};
use crate::admin::sessions::{SessionId, Sessions};
use crate::log::LogRelation;
use crate::policy::Policy;
use crate::time::Instant;

/// The whole safety logic of one admin: which leases it grants, what it waits for before it calls a revision enforced, and
/// what it does when the database may have lost changes.
///
/// A pure state machine: [`Node::handle`] takes an event and the time, and returns what the caller must do. It performs no
/// I/O, reads no clock, and holds no keys. The caller carries the effects out in order before it passes the next event. There
/// is one exception: while it carries out [`Effect::Deliver`], it may pass [`Event::DeltaTooLarge`] or [`Event::StreamBroke`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Node {
    pub(super) history: History,
    pub(super) sessions: Sessions,
    /// D' of the leases that earlier lives may have in use; zero if there are none, or if they have rows of their own.
    pub(super) former_wait: Duration,
    /// Set if other admins may use the same database.
    pub(super) cluster: Option<Cluster>,
    pub(super) fences: BTreeMap<FenceId, Fence>,
}

/// For how long after a fork, by the database's clock, an admin that starts waits out the leases of the lost history. Much
/// longer than leases last, because the clocks of database servers differ.
const RECENT_FORK: Duration = Duration::from_secs(60 * 60);

impl Node {
    /// The node of a process that starts at `now`.
    pub fn new(start: Start, now: Instant) -> Self {
        let Start { policy, head, accepted, forked_ago, peers } = start;
        let (former_lives, life) = match peers {
            PeerMode::Alone { former_lives } => (former_lives, None),
            PeerMode::Shared { life } => (None, Some(life)),
        };
        // Leases of the lost history may be in use, granted by admins that this one cannot list.
        let fork_is_recent = forked_ago.is_some_and(|ago| ago < RECENT_FORK);
        let former_lives = former_lives.or(fork_is_recent.then_some(policy));
        Self {
            history: History::new(head, accepted),
            sessions: Sessions::new(policy, former_lives, now),
            former_wait: former_lives.map_or(Duration::ZERO, |former| former.wait_out()),
            cluster: life.map(|life| Cluster::new(life, head.revision, now)),
            fences: BTreeMap::new(),
        }
    }

    /// The timing parameters that leases are granted by.
    pub const fn policy(&self) -> &Policy {
        self.sessions.policy()
    }

    /// The history that is followed.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// How many sessions have a stream.
    pub fn connected(&self) -> usize {
        self.sessions.connected()
    }

    /// The life of this process, if other admins may use the same database.
    pub fn life(&self) -> Option<AdminLife> {
        self.cluster.as_ref().map(|cluster| cluster.life)
    }

    /// The lives of other admins in the newest listing.
    pub fn peers(&self) -> impl Iterator<Item = &AdminNode> {
        self.cluster.iter().flat_map(Cluster::peers)
    }

    /// How long a fence may have to wait for leases at most.
    pub fn longest_wait(&self) -> Duration {
        let policy = self.policy();
        let listed = self.cluster.as_ref().map_or(Duration::ZERO, |cluster| cluster.listing.longest_wait(policy));
        policy.wait_out().max(listed).max(self.former_wait)
    }

    /// The instant that a lease granted at `now` is chained to.
    ///
    /// # Errors
    /// [`NoGrants`].
    pub fn basis(&self, now: Instant) -> Result<Instant, NoGrants> {
        if self.history.is_in_doubt() {
            return Err(NoGrants::InDoubt);
        }
        let basis = match &self.cluster {
            // A process that alone writes the database knows the whole log at any time. A commit that is not applied yet does
            // no harm: its delta will find the lease on record, and its fence will wait for it.
            None => now,
            Some(cluster) => cluster.basis.since().ok_or(NoGrants::NoBasis)?,
        };
        if now.since(basis) < self.policy().lease { Ok(basis) } else { Err(NoGrants::StaleBasis) }
    }

    /// Decides about a validator whose Hello names `position`, after the log was asked for it. Returns `true` if the history
    /// contains the position. `log`: the end of the log, read with `relation`.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn admit(&mut self, position: &Position, relation: LogRelation, log: &Position) -> Result<bool, NotNow> {
        let head = self.history.head();
        if relation == LogRelation::NewlyLost || log.epoch != head.epoch {
            self.history.suspect_position(*position);
            return Err(NotNow::InDoubt);
        }
        if self.history.relation(position) == Known::Ahead {
            return Err(NotNow::Behind);
        }
        Ok(!relation.is_lost())
    }

    /// Adds a session. `from`: the position that the validator continues from; `None` if it takes a snapshot.
    ///
    /// # Errors
    /// [`NotNow::InDoubt`].
    pub fn join(&mut self, id: SessionId, from: Option<&Position>) -> Result<Joined, NotNow> {
        if self.history.is_in_doubt() {
            return Err(NotNow::InDoubt);
        }
        self.sessions.join(id);
        let contained = from.filter(|from| self.history.relation(from) == Known::Contained);
        Ok(contained.map_or(Joined::WithSnapshot, |from| Joined::WithDeltasAfter(from.revision)))
    }

    /// Takes an event that happened at `now`. Returns what the caller must do, in order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Change(entry) => self.change(&entry, now),
            Event::DeltaTooLarge => {
                self.history.forget_recent();
                self.sessions.break_all();
                vec![Effect::EndAll]
            }
            Event::HeadMissing => self.doubt(),
            Event::Ack { session, revision } => {
                self.ack(session, revision);
                vec![Effect::Moved]
            }
            Event::Renew { session, seq, applied } => self.renew(session, seq, applied, now),
            Event::Goodbye(session) => {
                self.sessions.goodbye(session);
                self.session_ended(now)
            }
            Event::StreamBroke(session) => {
                self.sessions.break_stream(session);
                self.session_ended(now)
            }
            Event::HeartbeatSent { seen } => {
                self.heartbeat_sent(seen, now);
                Vec::new()
            }
            Event::HeartbeatAnswered { log, nodes } => self.heartbeat_answered(log, nodes, now),
            Event::PeerHeartbeat { life, asked, age } => {
                self.peer_heartbeat(life, asked, age, now);
                Vec::new()
            }
            Event::Evicted => self.evicted(),
            Event::Registered(life) => {
                self.registered(life);
                Vec::new()
            }
            Event::Leaving => self.leaving(now),
            Event::FenceBegan { fence, revision } => {
                self.begin_fence(fence, revision, now);
                vec![Effect::ReadLog, Effect::SendHeartbeat]
            }
            Event::PeerCleared { fence, life, cleared } => {
                self.peer_cleared(fence, life, cleared);
                vec![Effect::Moved]
            }
            Event::FenceEnded(fence) => {
                self.fences.remove(&fence);
                Vec::new()
            }
            Event::HistoryChecked { was_lost, is_lost } => self.history_checked(was_lost, is_lost),
            Event::Reconnected => self.resolve_doubt(now),
            Event::Reloaded { head, accepted } => self.reloaded(head, accepted, now),
        }
    }

    fn session_ended(&mut self, now: Instant) -> Vec<Effect> {
        self.sessions.forget_lapsed(now);
        vec![Effect::Moved]
    }

    fn ack(&mut self, session: SessionId, revision: Revision) {
        // A revision that was not delivered in this history can only have been applied in another one.
        self.sessions.ack(session, revision.min(self.history.head().revision));
    }

    fn renew(&mut self, session: SessionId, seq: u64, applied: Revision, now: Instant) -> Vec<Effect> {
        self.ack(session, applied);
        let granted = self.basis(now).ok().and_then(|basis| self.sessions.grant(session, basis, now));
        granted.map(|duration| Effect::Grant { session, seq, duration }).into_iter().collect()
    }

    fn change(&mut self, entry: &LogEntry, now: Instant) -> Vec<Effect> {
        if let Some(seen) = entry.conflict {
            self.history.suspect_position(seen);
            return self.doubt();
        }
        let mut effects = Vec::new();
        if let EntryKind::EpochBegins(epoch) = entry.kind {
            effects.extend(self.enter_epoch(epoch, now));
        }
        // Before the delta is queued: these sessions never acknowledge it, so its fence waits until their leases expire.
        for session in &entry.revoked {
            self.sessions.break_stream(*session);
            effects.push(Effect::End(*session));
        }
        let position = Position { epoch: self.history.head().epoch, revision: entry.revision, chain: entry.chain };
        self.history.apply(position);
        if entry.kind == EntryKind::EpochAccepted {
            self.history.accept();
        }
        self.sessions.forget_lapsed(now);
        self.sessions.queued(entry.revision);
        effects.push(Effect::Deliver(position));
        self.applied(now);
        effects.push(Effect::Moved);
        effects
    }

    fn applied(&mut self, now: Instant) {
        let revision = self.history.head().revision;
        if let Some(cluster) = &mut self.cluster {
            cluster.applied(revision, now);
        }
    }

    /// The log continues in a new epoch. It contains everything that this admin has applied.
    fn enter_epoch(&mut self, epoch: Epoch, now: Instant) -> Vec<Effect> {
        let wait_out = self.longest_wait();
        self.history.enter(epoch);
        self.history_changed();
        self.sessions.forked(wait_out, now);
        // Until a heartbeat of the new epoch is answered there are no leases.
        vec![Effect::EndAll, Effect::SendHeartbeat]
    }

    /// The database seems to lack a change that this admin has applied, or to have another one in its place.
    pub(super) fn doubt(&mut self) -> Vec<Effect> {
        self.history.doubt();
        self.forget_findings();
        vec![Effect::CheckHistory]
    }

    fn forget_findings(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.forget_findings();
        }
    }

    fn history_changed(&mut self) {
        self.forget_findings();
        self.fences.values_mut().for_each(Fence::history_changed);
    }

    fn history_checked(&mut self, was_lost: bool, is_lost: bool) -> Vec<Effect> {
        if is_lost && !was_lost {
            // The log changed between the two questions: asked again, with everything that this admin knows.
            return self.doubt();
        }
        self.history.clear_suspect();
        if is_lost {
            self.history.doubt();
            self.forget_findings();
            self.sessions.break_all();
            return vec![Effect::EndAll, Effect::Reload];
        }
        // A log that was only added to is followed.
        if self.history.is_in_doubt() { vec![Effect::Reconnect] } else { vec![Effect::ReadLog] }
    }

    /// Everything that validators received is in the log. The position that caused the doubt was never delivered, or came
    /// from a server that has been replaced.
    fn resolve_doubt(&mut self, now: Instant) -> Vec<Effect> {
        self.history.resolve_doubt();
        self.fences.values_mut().for_each(Fence::history_changed);
        self.applied(now);
        vec![Effect::ReadLog, Effect::SendHeartbeat, Effect::Moved]
    }

    fn reloaded(&mut self, head: Position, accepted: bool, now: Instant) -> Vec<Effect> {
        let wait_out = self.longest_wait();
        let suspect = self.history.suspect();
        self.history = History::new(head, accepted);
        if let Some(suspect) = suspect {
            self.history.suspect_position(suspect);
        }
        self.history_changed();
        if let Some(cluster) = &mut self.cluster {
            cluster.basis = Basis::default();
        }
        self.sessions.forked(wait_out, now);
        self.applied(now);
        vec![Effect::SendHeartbeat, Effect::Moved]
    }
}
