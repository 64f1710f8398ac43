use std::collections::{BTreeSet, HashMap, VecDeque};

use keyward_domain::{
    Change, Epoch, LoggedChange, MemberId, Permission, Position, Revision, Timestamp, Uid, WithheldToken, allows,
};
use keyward_proto::replica::sync_response::Message;
use keyward_proto::replica::{Delta, KeyEntry, SyncResponse};
use keyward_replica::{AnyClock, Clock, Instant, SessionId, Sessions};
use keyward_token::Digest;
use tokio::sync::{mpsc, oneshot};

use crate::app::Caller;
use crate::sync::heartbeat::Shared;
use crate::sync::image::Image;
use crate::sync::publisher::message;
use crate::sync::withheld::Withheld;

/// Deltas kept for validators that come back: those that missed more take a snapshot.
const RECENT: usize = 4_096;

/// Keys that one delta may carry. More come with a snapshot.
const MOST_KEYS: usize = 10_000;

/// What publishing, sessions and fences look at together.
#[derive(Debug)]
pub(super) struct State {
    /// What leases are judged by.
    pub(super) clock: AnyClock,
    pub(super) image: Image,
    /// Random id of the history that is followed.
    pub(super) epoch: Epoch,
    pub(super) revision: Revision,
    pub(super) chain: [u8; 32],
    /// What a former history refused, and validators are told is refused.
    pub(super) withheld: Withheld,
    /// What a former history refused, and this one does not know at all.
    pub(super) unknown: Vec<WithheldToken>,
    /// Whether an owner has accepted the epoch, or it never forked.
    pub(super) accepted: bool,
    /// The database may not be the one that validators were fed from, and this admin must find out first.
    pub(super) in_doubt: bool,
    /// How often there was doubt about the history: what was waited for before may not be what it was.
    pub(super) doubts: u64,
    /// A place that somebody knows and the database seems not to.
    pub(super) suspicion: Option<Position>,
    pub(super) recent: VecDeque<Delta>,
    pub(super) sessions: Sessions,
    /// Set when other admins may use the same database.
    pub(super) shared: Option<Shared>,
    pub(super) streams: HashMap<SessionId, StreamTo>,
    pub(super) next_session: u64,
    /// The database's clock, and ours when we read it.
    pub(super) wall: (Timestamp, Instant),
}

/// Where a session's messages go.
#[derive(Debug)]
pub(super) struct StreamTo {
    pub(super) queue: mpsc::Sender<SyncResponse>,
    /// Dropped with this.
    pub(super) _alive: oneshot::Sender<()>,
    /// `None`: the validator in this process.
    pub(super) principal: Option<Principal>,
}

/// By whose right a session runs.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) member: MemberId,
    pub(crate) credential: Digest,
}

impl Principal {
    /// The right of whoever calls.
    pub(super) fn of(caller: &Caller) -> Self {
        Self { member: caller.id.clone(), credential: caller.credential }
    }

    /// Whether this change takes the right away.
    fn loses_by(&self, change: &Change) -> bool {
        match change {
            Change::RoleRevoked { after, .. } => {
                after.id == self.member && !allows(&after.roles, Permission::Sync, None)
            }
            Change::CredentialRevoked { credential, .. } => *credential == self.credential,
            _ => false,
        }
    }
}

impl State {
    /// An instant at which this admin knew all of the log.
    ///
    /// It is now where this process alone writes the database. A commit that is not published yet is no trouble then, for
    /// its delta will find this lease on record, and its fence will wait for it.
    pub(super) fn basis(&self, now: Instant) -> Option<Instant> {
        if self.in_doubt {
            return None;
        }
        self.shared.as_ref().map_or(Some(now), |shared| shared.basis.since())
    }

    /// The end of what is published.
    pub(super) fn known(&self) -> Position {
        Position { epoch: self.epoch, revision: self.revision, chain: self.chain }
    }

    /// Notes what is applied, for grants and for what is enforced.
    pub(super) fn note_applied(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.basis.applied(self.revision);
            shared.settled.applied(self.revision, self.clock.now());
        }
    }

    pub(super) fn ack(&mut self, id: SessionId, revision: Revision) {
        // What was not published in this history can only have been applied in another.
        self.sessions.ack(id, revision.min(self.revision));
    }

    /// Hands a change out. `proven`: its chain value as validators are told it.
    pub(super) fn publish(&mut self, change: LoggedChange, proven: Vec<u8>) {
        let (revision, chain) = (change.revision, change.chain);
        self.expel(&change.change);
        let accepted = matches!(change.change, Change::EpochAccepted { .. });
        let keys = self.apply(change.change);
        (self.revision, self.chain) = (revision, chain);
        self.sessions.forget_lapsed(self.clock.now());
        self.sessions.appended(revision);
        let delta = Delta { revision: revision.0, chain: proven, keys, epoch_accepted: accepted };
        if delta.keys.len() > MOST_KEYS {
            // Whoever comes back takes a snapshot.
            self.recent.clear();
            self.expel_all();
            return;
        }
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.send(id, message(Message::Delta(delta.clone())));
        }
        self.recent.push_back(delta);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Takes a change in, and returns what validators must know anew.
    fn apply(&mut self, change: Change) -> Vec<KeyEntry> {
        let again: BTreeSet<Uid> = match change {
            Change::TokensWithheld { tokens, .. } => {
                let keys = tokens.iter().map(|token| token.key).collect();
                self.withheld.extend(tokens);
                keys
            }
            Change::EpochAccepted { .. } => {
                self.accepted = true;
                self.unknown.clear();
                std::mem::take(&mut self.withheld).keys().collect()
            }
            other => {
                let entries = other.into_entries();
                let told = entries.iter().map(|entry| self.withheld.tell(entry)).collect();
                for entry in entries {
                    self.image.put(entry);
                }
                return told;
            }
        };
        again.iter().filter_map(|uid| self.image.get(uid)).map(|entry| self.withheld.tell(entry)).collect()
    }

    /// Ends every session: what it was told is not what is so.
    pub(super) fn expel_all(&mut self) {
        for id in std::mem::take(&mut self.streams).into_keys() {
            self.sessions.broke(id);
        }
    }

    /// Ends the sessions of validators that lose their right by a change, before the change is handed out: so they never
    /// acknowledge it, and its fence waits until their leases have run out.
    fn expel(&mut self, change: &Change) {
        let loses = |stream: &StreamTo| stream.principal.as_ref().is_some_and(|who| who.loses_by(change));
        let lost: Vec<_> = self.streams.iter().filter(|(_, stream)| loses(stream)).map(|(id, _)| *id).collect();
        for id in lost {
            tracing::warn!(session = id.0, "a validator's right is revoked; its session ends");
            self.sessions.broke(id);
            self.streams.remove(&id);
        }
    }

    /// Queues a message. A session whose queue is full is over: it cannot be left with a gap.
    pub(super) fn send(&mut self, id: SessionId, message: SyncResponse) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.queue.try_send(message).is_err() {
            tracing::warn!(session = id.0, "a validator does not keep up, or has gone; its session ends");
            self.sessions.broke(id);
            self.streams.remove(&id);
        }
    }

    /// The place in this history that has a revision, if it is at hand.
    pub(super) fn place_at(&self, revision: Revision) -> Option<Position> {
        if revision == self.revision {
            return Some(self.known());
        }
        let at = self.recent.binary_search_by_key(&revision.0, |delta| delta.revision).ok()?;
        let (chain, _) = self.recent.get(at)?.chain.split_first_chunk::<32>()?;
        Some(Position { revision, chain: *chain, ..self.known() })
    }

    /// The deltas after `revision`, if that is a place in this history and all of them are at hand.
    pub(super) fn missed_since(&self, revision: Revision, chain: &[u8]) -> Option<Vec<Delta>> {
        if revision == self.revision {
            return (chain == self.chain).then(Vec::new);
        }
        let at = self.recent.iter().position(|d| d.revision == revision.0 && d.chain.starts_with(chain))?;
        Some(self.recent.iter().skip(at + 1).cloned().collect())
    }
}
