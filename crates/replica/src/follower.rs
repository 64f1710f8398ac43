use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{KeyEntry, Revision, Timestamp};
use keyward_token::{DigestKey, TokenFormat};

use crate::clock::{Clock, Instant};
use crate::holder::{Holder, HolderSession};
use crate::replica::Replica;
use crate::table::{Ends, TableWriter};

/// What an admin says, decoded.
#[derive(Debug)]
pub enum Message {
    /// The session begins.
    Welcome {
        /// Random id of the admin's history.
        epoch: String,
        /// By which tokens are looked up.
        digest_keys: Vec<DigestKey>,
        /// How tokens look.
        format: TokenFormat,
        /// Whether a snapshot follows.
        snapshot: bool,
        /// How the history stands to former ones.
        standing: HistoryStanding,
    },
    /// A part of the snapshot.
    Chunk {
        /// Whole keys.
        keys: Vec<KeyEntry>,
        /// Set on the last part: what the snapshot is a picture of.
        complete: Option<Position>,
    },
    /// One committed change.
    Delta {
        /// Where it leads.
        position: Position,
        /// The keys that it changed.
        keys: Vec<KeyEntry>,
        /// Whether from here on nothing of former histories is held against keys any more.
        accepted: bool,
    },
    /// The right to answer.
    Grant {
        /// Which renewal it answers.
        seq: u64,
        /// How long, from before the renewal was sent.
        duration: Duration,
        /// The database's clock when it was given.
        wall_time: Timestamp,
    },
}

/// How an admin's history stands to those that this replica may have seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HistoryStanding {
    /// An owner has accepted it, or it never forked: nothing of former histories is held against its keys.
    pub accepted: bool,
    /// The place that the Hello named is in it: it contradicts nothing that this replica has seen.
    pub continues: bool,
}

/// A place in the log with the chain's value there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// The revision.
    pub revision: Revision,
    /// The chain's value at it; opaque here.
    pub chain: Vec<u8>,
}

impl Position {
    /// Whether both are about the same revision and say different things of it.
    fn disagrees_with(&self, other: &Self) -> bool {
        self.revision == other.revision && self.chain != other.chain
    }
}

/// What the validator says back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// A revision is visible to every request.
    Ack(Revision),
}

/// Why a session cannot go on. The replica keeps what it has; the next session starts from there, or from nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FollowerError {
    /// A message came before the Welcome, or a second Welcome, or one of a session that is over.
    OutOfOrder,
    /// A delta did not follow the one before: something was lost. The next session takes a snapshot.
    Gap,
    /// A snapshot of the same history is older than what this replica has served from.
    WentBack,
    /// An admin says something else of a revision than this replica knows of it: the history has forked.
    Forked,
}

impl std::fmt::Display for FollowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "the admin sent a message out of order",
            Self::Gap => "a change is missing from the stream",
            Self::WentBack => "the admin is behind what this validator already knows",
            Self::Forked => "the admin's history is another than what this validator knows",
        })
    }
}

impl std::error::Error for FollowerError {}

/// How many places are kept to compare by. A session that is further behind another than that counts only from where it
/// has caught up.
const PASSED: usize = 4_096;

/// Keeps a replica exact: takes the messages of its sessions, each in order, and applies them.
///
/// While a validator moves from one admin to another it has two sessions. Both say the same of the same history, so what
/// either says first is applied, and skipped when the other says it; a lease is only ever taken behind all that its own
/// session said before it.
#[derive(Debug)]
pub struct Follower<C> {
    replica: Arc<Replica<C>>,
    /// What the table that requests see is a picture of.
    epoch: String,
    position: Position,
    /// The places that it has come by, the position last: what one session has said is held against what another one does.
    passed: VecDeque<Position>,
    /// A change was lost: the next session must take a snapshot.
    lost: bool,
    writer: TableWriter,
    holder: Holder,
    sessions: BTreeMap<HolderSession, Session>,
}

/// What ends with the stream.
#[derive(Debug, Default)]
struct Session {
    welcomed: Option<Welcomed>,
    /// Where the Hello said that the replica stands.
    from: Position,
    /// How far the stream has come.
    at: Position,
    /// Whether that is a place which the replica has come by, too: then the table has all that the stream has said.
    agrees: bool,
    /// A snapshot under way, invisible until it is whole and no older than what requests see.
    building: Option<Building>,
}

#[derive(Clone, Debug)]
struct Welcomed {
    epoch: String,
    digest_keys: Vec<DigestKey>,
    format: TokenFormat,
    standing: HistoryStanding,
}

#[derive(Debug, Default)]
struct Building {
    writer: TableWriter,
    whole: bool,
}

impl<C: Clock> Follower<C> {
    /// One that knows nothing yet.
    pub fn new(replica: Arc<Replica<C>>) -> Self {
        Self {
            replica,
            epoch: String::new(),
            position: Position::default(),
            passed: VecDeque::new(),
            lost: false,
            writer: TableWriter::default(),
            holder: Holder::default(),
            sessions: BTreeMap::new(),
        }
    }

    /// Begins a session, beside those that there are: its number, and the epoch and position to say Hello with. Leases of
    /// sessions that broke count on to their ends.
    pub fn begin(&mut self) -> (HolderSession, &str, &Position) {
        let id = self.holder.begin(self.replica.clock().now());
        let (from, at) = (self.position.clone(), self.position.clone());
        self.sessions.insert(id, Session { from, at, agrees: true, ..Session::default() });
        (id, &self.epoch, &self.position)
    }

    /// Whether the next session should begin with a snapshot, because the stream of an earlier one had a gap.
    pub const fn wants_snapshot(&self) -> bool {
        self.lost
    }

    /// How many tokens are refused for what a former history said of them.
    pub fn withheld(&self) -> usize {
        self.writer.withheld_len()
    }

    /// Stops answering under that session's lease, so that Goodbye may be said: the admin that hears it waits for this
    /// validator no longer.
    pub fn leave(&mut self, id: HolderSession) {
        self.sessions.remove(&id);
        self.holder.leave(id);
        self.show_lease();
    }

    /// A session's stream broke: what it was granted counts on.
    pub fn broke(&mut self, id: HolderSession) {
        self.sessions.remove(&id);
        self.holder.broke(id);
    }

    /// Notes that renewal `seq` is about to be sent.
    pub fn renewing(&mut self, id: HolderSession, seq: u64) {
        self.holder.renewing(id, seq, self.replica.clock().now());
    }

    /// Whether the replica is complete in that session, so that a lease is worth asking for.
    pub fn is_complete(&self, id: HolderSession) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.welcomed.is_some() && session.building.is_none())
    }

    /// How long that session's lease runs on.
    pub fn lease_left(&self, id: HolderSession) -> Duration {
        self.left(self.holder.lease_of(id))
    }

    /// How long requests will be answered if nothing more is heard.
    pub fn left_in_all(&self) -> Duration {
        self.left(self.holder.until())
    }

    fn left(&self, until: Instant) -> Duration {
        if until == Instant::MIN { Duration::ZERO } else { until.since(self.replica.clock().now()) }
    }

    /// The revision that requests are answered from.
    pub const fn revision(&self) -> Revision {
        self.position.revision
    }

    /// The revision up to which it has applied what that session said: another one may have told it more, which this
    /// session's admin need not know, or be in.
    pub fn revision_of(&self, id: HolderSession) -> Revision {
        let session = self.sessions.get(&id).filter(|session| session.building.is_none() && session.agrees);
        session.map_or(Revision(0), |session| session.at.revision.min(self.position.revision))
    }

    /// Applies one message of a session. What it changes is visible to every request before the reply is returned.
    ///
    /// # Errors
    /// See [`FollowerError`]; the session must be ended.
    pub fn handle(&mut self, id: HolderSession, message: Message) -> Result<Option<Reply>, FollowerError> {
        match message {
            Message::Welcome { epoch, digest_keys, format, snapshot, standing } => {
                self.welcome(id, Welcomed { epoch, digest_keys, format, standing }, snapshot).map(|()| None)
            }
            Message::Chunk { keys, complete } => self.chunk(id, keys, complete),
            Message::Delta { position, keys, accepted } => self.delta(id, position, keys, accepted),
            Message::Grant { seq, duration, wall_time } => {
                self.grant(id, seq, duration, wall_time);
                Ok(None)
            }
        }
    }

    fn session(&mut self, id: HolderSession) -> Result<&mut Session, FollowerError> {
        self.sessions.get_mut(&id).ok_or(FollowerError::OutOfOrder)
    }

    fn welcome(&mut self, id: HolderSession, welcomed: Welcomed, snapshot: bool) -> Result<(), FollowerError> {
        let same_epoch = welcomed.epoch == self.epoch;
        // Only once nobody gives leases for the history that is served from may another one take its place.
        if !same_epoch && self.sessions.keys().any(|other| *other != id && self.is_lived_by(*other)) {
            return Err(FollowerError::Forked);
        }
        let session = self.session(id)?;
        if session.welcomed.is_some() || (!snapshot && !same_epoch) {
            return Err(FollowerError::OutOfOrder);
        }
        if snapshot {
            session.building = Some(Building::default());
        }
        session.welcomed = Some(welcomed.clone());
        if !snapshot {
            if welcomed.standing.accepted {
                self.writer.release();
            }
            self.replica.install(Arc::clone(self.writer.table()), welcomed.format, welcomed.digest_keys);
        }
        Ok(())
    }

    /// Whether requests are answered under that session's lease.
    fn is_lived_by(&self, id: HolderSession) -> bool {
        self.is_complete(id) && !self.lease_left(id).is_zero()
    }

    fn chunk(
        &mut self,
        id: HolderSession,
        keys: Vec<KeyEntry>,
        complete: Option<Position>,
    ) -> Result<Option<Reply>, FollowerError> {
        let session = self.session(id)?;
        let building = session.building.as_mut().filter(|b| !b.whole).ok_or(FollowerError::OutOfOrder)?;
        for key in keys {
            building.writer.put(key);
        }
        let Some(position) = complete else { return Ok(None) };
        building.whole = true;
        session.at = position;
        let alone = self.sessions.len() == 1;
        let behind = self.is_behind(id);
        if behind && alone {
            // Nobody can have told this replica more than a history that is whole.
            return Err(FollowerError::WentBack);
        }
        if behind { Ok(None) } else { self.install(id) }
    }

    /// Whether that session has not come as far as what requests see already.
    fn is_behind(&self, id: HolderSession) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let same_epoch = session.welcomed.as_ref().is_some_and(|welcomed| welcomed.epoch == self.epoch);
        same_epoch && session.at.revision < self.position.revision
    }

    /// Shows requests the snapshot that a session has brought.
    fn install(&mut self, id: HolderSession) -> Result<Option<Reply>, FollowerError> {
        let session = self.sessions.get_mut(&id).ok_or(FollowerError::OutOfOrder)?;
        let Building { mut writer, .. } = session.building.take().ok_or(FollowerError::OutOfOrder)?;
        let welcomed = session.welcomed.clone().ok_or(FollowerError::OutOfOrder)?;
        let (from, at) = (session.from.clone(), session.at.clone());
        writer.withhold(self.to_withhold(&welcomed, &from));
        let Welcomed { epoch, digest_keys, format, .. } = welcomed;
        if epoch == self.epoch && self.position.disagrees_with(&at) {
            return Err(FollowerError::Forked);
        }
        writer.publish(at.revision);
        if epoch != self.epoch {
            // Sessions and leases of another history say nothing about this one.
            self.sessions.retain(|other, _| *other == id);
            self.holder.drop_all();
            self.show_lease();
        }
        self.lost = false;
        self.replica.install(Arc::clone(writer.table()), format, digest_keys);
        (self.epoch, self.writer) = (epoch, writer);
        self.passed.clear();
        self.pass(at);
        let at = self.position.clone();
        for (other, session) in &mut self.sessions {
            // What they have said since must be met again: it is not in this table because of them.
            session.agrees = *other == id || session.at == at;
        }
        Ok(Some(Reply::Ack(self.position.revision)))
    }

    /// What is refused in the history that a session has brought, whatever that one says; `from`: what was served when it
    /// began.
    ///
    /// A restore may have brought back what was deactivated, so what this replica has seen refused stays so. Not if the
    /// other history goes on from where it stands: then it has seen no other.
    fn to_withhold(&self, welcomed: &Welcomed, from: &Position) -> Ends {
        if welcomed.standing.accepted {
            return Ends::default();
        }
        let contradicted = !welcomed.standing.continues || *from != self.position;
        if welcomed.epoch != self.epoch && contradicted { self.writer.ends() } else { self.writer.withheld() }
    }

    fn delta(
        &mut self,
        id: HolderSession,
        position: Position,
        keys: Vec<KeyEntry>,
        accepted: bool,
    ) -> Result<Option<Reply>, FollowerError> {
        let session = self.session(id)?;
        if session.welcomed.is_none() || session.building.as_ref().is_some_and(|b| !b.whole) {
            return Err(FollowerError::OutOfOrder);
        }
        if position.revision != session.at.revision.next() {
            self.lost = true;
            return Err(FollowerError::Gap);
        }
        session.at = position.clone();
        let agreed = session.agrees;
        if let Some(welcomed) = &mut session.welcomed {
            welcomed.standing.accepted |= accepted;
        }
        if let Some(building) = &mut session.building {
            for key in keys {
                building.writer.put(key);
            }
            return if self.is_behind(id) { Ok(None) } else { self.install(id) };
        }
        let revision = position.revision;
        let agrees = match self.bearing(&position) {
            Some(agrees) => agrees?,
            // It goes on from where the replica stands, if the session was in the same history up to here.
            None if agreed => {
                self.apply(position, keys, accepted);
                true
            }
            None => return Err(FollowerError::Gap),
        };
        let session = self.session(id)?;
        session.agrees = agrees;
        Ok(agrees.then_some(Reply::Ack(revision)))
    }

    /// Whether the replica has come by a place; `None`: it is the next one. `Some(Ok(false))`: that is not known any more.
    fn bearing(&self, place: &Position) -> Option<Result<bool, FollowerError>> {
        if place.revision > self.position.revision {
            return None;
        }
        let known = self.passed.binary_search_by_key(&place.revision, |passed| passed.revision);
        match known.ok().and_then(|at| self.passed.get(at)) {
            Some(passed) if passed.disagrees_with(place) => Some(Err(FollowerError::Forked)),
            Some(_) => Some(Ok(true)),
            None => Some(Ok(false)),
        }
    }

    fn apply(&mut self, position: Position, keys: Vec<KeyEntry>, accepted: bool) {
        for key in keys {
            self.writer.put(key);
        }
        if accepted {
            self.writer.release();
        }
        self.writer.publish(position.revision);
        self.pass(position);
    }

    fn pass(&mut self, position: Position) {
        if self.passed.len() == PASSED {
            self.passed.pop_front();
        }
        self.passed.push_back(position.clone());
        self.position = position;
    }

    fn grant(&mut self, id: HolderSession, seq: u64, duration: Duration, wall_time: Timestamp) {
        // A lease is good behind all that its session has said, so that must be in the table.
        if !self.is_complete(id) || !self.sessions.get(&id).is_some_and(|s| s.agrees) || duration.is_zero() {
            return;
        }
        if let Some(anchor) = self.holder.granted(id, seq, duration) {
            self.replica.set_wall_time(anchor, wall_time);
            self.show_lease();
        }
    }

    fn show_lease(&self) {
        self.replica.lease().publish(self.holder.until());
    }
}

#[cfg(test)]
mod tests;
