use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{KeyEntry, Revision, Timestamp};
use keyward_token::{DigestKey, TokenFormat};

use crate::clock::Clock;
use crate::holder::Holder;
use crate::replica::Replica;
use crate::table::TableWriter;

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

/// A place in the log with the chain's value there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// The revision.
    pub revision: Revision,
    /// The chain's value at it; opaque here.
    pub chain: Vec<u8>,
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
    /// A message came before the Welcome, or a second Welcome.
    OutOfOrder,
    /// A delta did not follow the one before: something was lost. The next session takes a snapshot.
    Gap,
    /// A snapshot of the same history is older than what this replica has served from.
    WentBack,
}

impl std::fmt::Display for FollowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "the admin sent a message out of order",
            Self::Gap => "a change is missing from the stream",
            Self::WentBack => "the admin is behind what this validator already knows",
        })
    }
}

impl std::error::Error for FollowerError {}

/// Keeps a replica exact: takes the messages of one session after another, in order, and applies them.
#[derive(Debug)]
pub struct Follower<C> {
    replica: Arc<Replica<C>>,
    /// What the table that requests see is a picture of.
    epoch: String,
    position: Position,
    /// A change was lost: the next session must take a snapshot.
    lost: bool,
    writer: TableWriter,
    holder: Holder,
    session: Session,
}

/// What ends with the stream.
#[derive(Debug, Default)]
struct Session {
    welcomed: Option<Welcomed>,
    /// A snapshot under way: invisible until it is whole.
    building: Option<TableWriter>,
}

#[derive(Debug)]
struct Welcomed {
    epoch: String,
    digest_keys: Vec<DigestKey>,
    format: TokenFormat,
}

impl<C: Clock> Follower<C> {
    /// One that knows nothing yet.
    pub fn new(replica: Arc<Replica<C>>) -> Self {
        Self {
            replica,
            epoch: String::new(),
            position: Position::default(),
            lost: false,
            writer: TableWriter::default(),
            holder: Holder::default(),
            session: Session::default(),
        }
    }

    /// Begins a session: the epoch and position to say Hello with. An empty epoch asks for a snapshot. Leases of sessions
    /// that broke count on to their ends.
    pub fn begin(&mut self) -> (&str, &Position) {
        self.session = Session::default();
        self.holder.begin(self.replica.clock().now());
        (if self.lost { "" } else { &self.epoch }, &self.position)
    }

    /// Stops answering under this session's lease, so that Goodbye may be said: the admin that hears it waits for this
    /// validator no longer.
    pub fn leave(&mut self) {
        self.holder.leave();
        self.replica.lease().publish(self.holder.until());
    }

    /// Notes that renewal `seq` is about to be sent.
    pub fn renewing(&mut self, seq: u64) {
        self.holder.renewing(seq, self.replica.clock().now());
    }

    /// Whether the replica is complete in this session, so that a lease is worth asking for.
    pub fn is_complete(&self) -> bool {
        self.session.welcomed.is_some() && self.session.building.is_none()
    }

    /// The revision that it has applied.
    pub const fn revision(&self) -> Revision {
        self.position.revision
    }

    /// Applies one message. What it changes is visible to every request before the reply is returned.
    ///
    /// # Errors
    /// See [`FollowerError`]; the session must be ended.
    pub fn handle(&mut self, message: Message) -> Result<Option<Reply>, FollowerError> {
        match message {
            Message::Welcome { epoch, digest_keys, format, snapshot } => {
                self.welcome(Welcomed { epoch, digest_keys, format }, snapshot).map(|()| None)
            }
            Message::Chunk { keys, complete } => self.chunk(keys, complete),
            Message::Delta { position, keys } => self.delta(position, keys).map(Some),
            Message::Grant { seq, duration, wall_time } => {
                self.grant(seq, duration, wall_time);
                Ok(None)
            }
        }
    }

    fn welcome(&mut self, welcomed: Welcomed, snapshot: bool) -> Result<(), FollowerError> {
        if self.session.welcomed.is_some() || (!snapshot && welcomed.epoch != self.epoch) {
            return Err(FollowerError::OutOfOrder);
        }
        if snapshot {
            self.session.building = Some(TableWriter::default());
        } else {
            let keys = welcomed.digest_keys.clone();
            self.replica.install(Arc::clone(self.writer.table()), welcomed.format.clone(), keys);
        }
        self.session.welcomed = Some(welcomed);
        Ok(())
    }

    fn chunk(&mut self, keys: Vec<KeyEntry>, complete: Option<Position>) -> Result<Option<Reply>, FollowerError> {
        let building = self.session.building.as_mut().ok_or(FollowerError::OutOfOrder)?;
        for key in keys {
            building.put(key);
        }
        let Some(position) = complete else { return Ok(None) };
        let welcomed = self.session.welcomed.as_ref().ok_or(FollowerError::OutOfOrder)?;
        if welcomed.epoch == self.epoch && position.revision < self.position.revision {
            return Err(FollowerError::WentBack);
        }
        building.publish(position.revision);
        let (format, digest_keys) = (welcomed.format.clone(), welcomed.digest_keys.clone());
        if welcomed.epoch != self.epoch {
            // Leases of another history say nothing about this one.
            self.holder.drop_all();
            self.replica.lease().publish(self.holder.until());
        }
        self.lost = false;
        self.replica.install(Arc::clone(building.table()), format, digest_keys);
        self.epoch.clone_from(&welcomed.epoch);
        self.writer = self.session.building.take().unwrap_or_default();
        self.position = position;
        Ok(Some(Reply::Ack(self.position.revision)))
    }

    fn delta(&mut self, position: Position, keys: Vec<KeyEntry>) -> Result<Reply, FollowerError> {
        if !self.is_complete() {
            return Err(FollowerError::OutOfOrder);
        }
        if position.revision != self.position.revision.next() {
            self.lost = true;
            return Err(FollowerError::Gap);
        }
        for key in keys {
            self.writer.put(key);
        }
        self.writer.publish(position.revision);
        self.position = position;
        Ok(Reply::Ack(self.position.revision))
    }

    fn grant(&mut self, seq: u64, duration: Duration, wall_time: Timestamp) {
        if !self.is_complete() || duration.is_zero() {
            return;
        }
        if let Some(anchor) = self.holder.granted(seq, duration) {
            self.replica.set_wall_time(anchor, wall_time);
            self.replica.lease().publish(self.holder.until());
        }
    }
}

#[cfg(test)]
mod tests;
