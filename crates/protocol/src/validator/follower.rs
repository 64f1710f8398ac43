use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keyward_domain::{Epoch, ProvenPosition, Revision, Timestamp};

use crate::time::Instant;
use crate::validator::holder::{Holder, HolderSession};
use crate::validator::lease::Lease;
use crate::validator::table::Table;

/// A message of an admin, decoded.
#[derive(Debug)]
pub enum Message<T: Table> {
    /// Begins the session.
    Welcome(Welcome),
    /// A part of a snapshot.
    Chunk {
        /// Whole keys.
        keys: Vec<T::Entry>,
        /// Set on the last part: the position of the snapshot.
        complete: Option<ProvenPosition>,
    },
    /// One committed change.
    Delta {
        /// The position after the change.
        position: ProvenPosition,
        /// The keys that the change touched, as they are after it.
        keys: Vec<T::Entry>,
        /// `true` if the change accepts the epoch: no token is withheld any more because of a lost history.
        accepted: bool,
    },
    /// A lease.
    Grant {
        /// The renewal that the grant answers.
        seq: u64,
        /// The length of the lease, counted from before the renewal was sent.
        duration: Duration,
        /// The database's clock when the lease was granted.
        wall_time: Timestamp,
    },
}

/// The first message of an admin in a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Welcome {
    /// The epoch of the admin's history.
    pub epoch: Epoch,
    /// `true` if a snapshot follows.
    pub snapshot: bool,
    /// `true` if an owner has accepted the epoch, or the history never forked: no token is withheld because of a lost
    /// history.
    pub accepted: bool,
    /// `true` if the history contains the position of the session's Hello: it contradicts nothing that this replica served.
    pub continues: bool,
}

/// What the caller must do, in this order, after the follower has taken a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Requests are answered under this lease from now on.
    PublishLease(Lease),
    /// The database's clock showed `wall` at the instant `at`, or earlier.
    SetWallTime {
        /// An instant of this machine's clock.
        at: Instant,
        /// The database's clock.
        wall: Timestamp,
    },
    /// Requests are answered from [`Follower::table`] from now on, and tokens are looked up by the digest keys of the session
    /// whose message was taken.
    Serve,
    /// Acknowledge a revision to the session's admin: every request sees it.
    Ack(Revision),
    /// Report to the session's admin the withheld tokens that the table's own history accepts for longer, if there are any.
    /// The admin then withholds them for every validator. Repeated in every session until the epoch is accepted, because a
    /// report may be lost.
    ReportWithheld,
}

/// Why a session cannot continue. The replica keeps its memory; the next session continues from there, or takes a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FollowerError {
    /// A message came before the Welcome, a second Welcome came, or the session is over.
    OutOfOrder,
    /// A delta did not follow the one before: a change was lost. The next session takes a snapshot.
    Gap,
    /// A snapshot of the served history is older than what this replica has served.
    WentBack,
    /// The admin names another change for a revision that this replica has applied: the history has forked.
    Forked,
}

impl std::fmt::Display for FollowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "the admin sent a message out of order",
            Self::Gap => "a change is missing from the stream",
            Self::WentBack => "the admin has not reached this validator's revision",
            Self::Forked => "the admin's history differs from this validator's",
        })
    }
}

impl std::error::Error for FollowerError {}

/// A session that is about to be opened, and the content of its Hello.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The session.
    pub session: HolderSession,
    /// The position of the replica; `None` before the first snapshot.
    pub position: Option<ProvenPosition>,
    /// `true` if the session must begin with a snapshot, because an earlier stream had a gap.
    pub snapshot: bool,
}

/// How many served positions are kept for comparison. A session that lags further behind than that does not count until it
/// has caught up.
const RECENT: usize = 4_096;

/// Keeps a replica exact: takes the messages of its sessions, each in order, and applies them to the table.
///
/// A validator that moves between admins has two sessions for a while. Both carry the same changes of the same history:
/// the first copy of a change is applied and the second one skipped. A grant counts only once everything that its own session
/// has sent before it is in the table.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Follower<T: Table> {
    /// Positions that the replica has served in its epoch, the current one last; at most [`RECENT`].
    served: VecDeque<ProvenPosition>,
    /// A change was lost: the next session must take a snapshot.
    lost_change: bool,
    table: T,
    holder: Holder,
    sessions: BTreeMap<HolderSession, Session<T>>,
}

/// The state that ends with a stream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Session<T: Table> {
    welcome: Option<Welcome>,
    /// The position of the session's Hello.
    from: Option<ProvenPosition>,
    /// The position that the stream has reached.
    at: Option<ProvenPosition>,
    /// `true` if the replica has served that position, so that everything the stream has sent is in the table.
    agrees: bool,
    snapshot: Snapshot<T>,
}

/// A snapshot that a session has brought.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Snapshot<T> {
    /// There is none, or requests are answered from it.
    None,
    /// Parts are missing.
    Partial(T),
    /// It is complete, but older than what requests see already.
    Behind(T),
}

/// How a position relates to the served history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    /// It is newer than what is served.
    Newer,
    /// It was served.
    Served,
    /// Its revision was served so long ago that the position is not kept any more.
    Forgotten,
    /// The replica has served another position of that revision.
    Conflict,
}

type Effects = Vec<Effect>;

impl<T: Table> Default for Follower<T> {
    fn default() -> Self {
        Self {
            served: VecDeque::new(),
            lost_change: false,
            table: T::default(),
            holder: Holder::default(),
            sessions: BTreeMap::new(),
        }
    }
}

impl<T: Table> Session<T> {
    fn epoch(&self) -> Option<Epoch> {
        self.welcome.as_ref().map(|welcome| welcome.epoch)
    }

    fn revision(&self) -> Revision {
        self.at.map_or(Revision(0), |at| at.position.revision)
    }

    /// See [`Follower::canonical`]. What decides about a snapshot is dropped once the snapshot is installed.
    fn canonical(&self) -> Self
    where
        T: Clone,
    {
        let mut session = self.clone();
        if let Some(welcome) = session.welcome.as_mut().filter(|_| matches!(self.snapshot, Snapshot::None)) {
            *welcome = Welcome { snapshot: false, accepted: true, continues: true, ..*welcome };
            session.from = None;
        }
        session
    }

    /// Returns `true` if the session's snapshot, if it has one, is what requests are answered from.
    fn is_complete(&self) -> bool {
        self.welcome.is_some() && matches!(self.snapshot, Snapshot::None)
    }
}

impl<T: Table> Follower<T> {
    /// The table that requests are answered from.
    pub const fn table(&self) -> &T {
        &self.table
    }

    /// The position of the replica; `None` before the first snapshot.
    pub fn position(&self) -> Option<ProvenPosition> {
        self.served.back().copied()
    }

    /// The revision that requests are answered from.
    pub fn revision(&self) -> Revision {
        self.position().map_or(Revision(0), |served| served.position.revision)
    }

    /// The epoch that requests are answered from.
    fn epoch(&self) -> Option<Epoch> {
        self.position().map(|served| served.position.epoch)
    }

    /// Returns `true` if the replica is complete in that session, so that a lease is worth asking for.
    pub fn is_complete(&self, id: HolderSession) -> bool {
        self.sessions.get(&id).is_some_and(Session::is_complete)
    }

    /// The revision up to which the table holds everything that the session has sent. Another session may have brought more,
    /// which this session's admin need not have.
    pub fn revision_of(&self, id: HolderSession) -> Revision {
        let session =
            self.sessions.get(&id).filter(|session| session.agrees && matches!(session.snapshot, Snapshot::None));
        session.map_or(Revision(0), |session| session.revision().min(self.revision()))
    }

    /// The lease of one session.
    pub fn lease_of(&self, id: HolderSession) -> Lease {
        self.holder.lease_of(id)
    }

    /// The lease that requests are answered under.
    pub fn lease(&self) -> Lease {
        self.holder.lease()
    }

    /// Begins a session beside the existing ones. Leases of broken sessions remain valid until they expire.
    pub fn begin(&mut self, now: Instant) -> Opening {
        let session = self.holder.begin(now);
        let position = self.position();
        let fresh = Session { welcome: None, from: position, at: position, agrees: true, snapshot: Snapshot::None };
        self.sessions.insert(session, fresh);
        Opening { session, position, snapshot: self.lost_change }
    }

    /// Records that renewal `seq` is about to be sent.
    pub fn renewing(&mut self, id: HolderSession, seq: u64, now: Instant) {
        self.holder.renewing(id, seq, now);
    }

    /// Records that a session's stream broke. Its lease remains valid until it expires.
    pub fn break_stream(&mut self, id: HolderSession) {
        self.sessions.remove(&id);
        self.holder.break_stream(id);
    }

    /// Ends a session and its lease. The effect must be carried out before Goodbye is sent: the admin that receives the
    /// Goodbye no longer waits for this validator.
    #[must_use]
    pub fn leave(&mut self, id: HolderSession) -> Effect {
        self.sessions.remove(&id);
        self.holder.leave(id);
        Effect::PublishLease(self.holder.lease())
    }

    /// Applies one message of a session, which arrived at `now`.
    ///
    /// # Errors
    /// See [`FollowerError`]; the session must be ended.
    pub fn receive(&mut self, id: HolderSession, message: Message<T>, now: Instant) -> Result<Effects, FollowerError> {
        match message {
            Message::Welcome(welcome) => self.welcome(id, welcome, now),
            Message::Chunk { keys, complete } => self.chunk(id, keys, complete),
            Message::Delta { position, keys, accepted } => self.delta(id, position, keys, accepted),
            Message::Grant { seq, duration, wall_time } => Ok(self.grant(id, seq, duration, wall_time)),
        }
    }

    /// This follower on a clock whose zero is `now`, for a search through all states: followers that will do the same become
    /// equal. The arguments and the second value returned are those of [`Holder::canonical`].
    #[must_use]
    pub fn canonical(&self, now: Instant, longest: Duration, open: &[HolderSession]) -> (Self, Vec<Vec<u64>>)
    where
        T: Clone,
    {
        let (holder, renewals) = self.holder.canonical(now, longest, open);
        let sessions = (1..).map(HolderSession).zip(open);
        let sessions = sessions.filter_map(|(id, old)| Some((id, self.sessions.get(old)?.canonical()))).collect();
        let (served, table) = (self.served.clone(), self.table.clone());
        (Self { served, lost_change: self.lost_change, table, holder, sessions }, renewals)
    }

    fn session(&mut self, id: HolderSession) -> Result<&mut Session<T>, FollowerError> {
        self.sessions.get_mut(&id).ok_or(FollowerError::OutOfOrder)
    }

    fn welcome(&mut self, id: HolderSession, welcome: Welcome, now: Instant) -> Result<Effects, FollowerError> {
        let same_epoch = Some(welcome.epoch) == self.epoch();
        // Another history may replace the served one only once no admin grants leases for the served one any more.
        if !same_epoch && self.sessions.keys().any(|other| *other != id && self.answers_under(*other, now)) {
            return Err(FollowerError::Forked);
        }
        let session = self.session(id)?;
        if session.welcome.is_some() || (!welcome.snapshot && !same_epoch) {
            return Err(FollowerError::OutOfOrder);
        }
        session.welcome = Some(welcome);
        if welcome.snapshot {
            session.snapshot = Snapshot::Partial(T::default());
            return Ok(Vec::new());
        }
        if welcome.accepted {
            self.table.release();
            return Ok(vec![Effect::Serve]);
        }
        Ok(vec![Effect::Serve, Effect::ReportWithheld])
    }

    /// Returns `true` if requests are answered under that session's lease at `now`.
    fn answers_under(&self, id: HolderSession, now: Instant) -> bool {
        self.is_complete(id) && self.lease_of(id).is_valid_at(now)
    }

    fn chunk(
        &mut self,
        id: HolderSession,
        keys: Vec<T::Entry>,
        complete: Option<ProvenPosition>,
    ) -> Result<Effects, FollowerError> {
        let session = self.session(id)?;
        let Snapshot::Partial(table) = &mut session.snapshot else { return Err(FollowerError::OutOfOrder) };
        for key in keys {
            table.put(key);
        }
        let Some(position) = complete else { return Ok(Vec::new()) };
        session.at = Some(position);
        session.snapshot = Snapshot::Behind(std::mem::take(table));
        match (self.is_behind(id), self.sessions.len()) {
            (false, _) => self.install(id),
            // With only one session, a snapshot older than the served table means that the admin has lost changes.
            (true, 1) => Err(FollowerError::WentBack),
            (true, _) => Ok(Vec::new()),
        }
    }

    /// Returns `true` if the session has not reached the revision that requests see already, in the same epoch.
    fn is_behind(&self, id: HolderSession) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        session.epoch() == self.epoch() && session.revision() < self.revision()
    }

    /// Makes requests see the snapshot that a session has brought.
    fn install(&mut self, id: HolderSession) -> Result<Effects, FollowerError> {
        let session = self.session(id)?;
        let Snapshot::Behind(mut table) = std::mem::replace(&mut session.snapshot, Snapshot::None) else {
            return Err(FollowerError::OutOfOrder);
        };
        let welcome = session.welcome.ok_or(FollowerError::OutOfOrder)?;
        let (from, at) = (session.from, session.at.ok_or(FollowerError::OutOfOrder)?);
        let same_epoch = Some(welcome.epoch) == self.epoch();
        if same_epoch && self.relation(&at) == Relation::Conflict {
            return Err(FollowerError::Forked);
        }
        table.withhold(self.to_withhold(&welcome, from));
        table.publish(at.position.revision);
        let mut effects = Vec::new();
        if !same_epoch {
            // Sessions and leases of another history are worth nothing in this one.
            self.sessions.retain(|other, _| *other == id);
            self.holder.drop_all();
            effects.push(Effect::PublishLease(Lease::NONE));
        }
        self.lost_change = false;
        self.table = table;
        self.served.clear();
        self.serve(at);
        for (other, session) in &mut self.sessions {
            // Whatever the other sessions have sent since must be compared again: the new table does not come from them.
            session.agrees = *other == id || session.at == Some(at);
        }
        effects.extend([Effect::Serve, Effect::Ack(at.position.revision)]);
        effects.extend((!welcome.accepted).then_some(Effect::ReportWithheld));
        Ok(effects)
    }

    /// The tokens to deny in the history that a session has brought, although that history may accept them. `from`: the
    /// position of the session's Hello.
    ///
    /// A restored database may have lost deactivations, so every token that this replica has seen denied stays denied in
    /// another history. An exception is a history that contains the position which is served: it contradicts nothing.
    fn to_withhold(&self, welcome: &Welcome, from: Option<ProvenPosition>) -> T::Ends {
        if welcome.accepted {
            return T::Ends::default();
        }
        let contradicts = !welcome.continues || from != self.position();
        if Some(welcome.epoch) != self.epoch() && contradicts { self.table.ends() } else { self.table.withheld() }
    }

    fn delta(
        &mut self,
        id: HolderSession,
        position: ProvenPosition,
        keys: Vec<T::Entry>,
        accepted: bool,
    ) -> Result<Effects, FollowerError> {
        let relation = self.relation(&position);
        let session = self.session(id)?;
        if session.welcome.is_none() || matches!(session.snapshot, Snapshot::Partial(_)) {
            return Err(FollowerError::OutOfOrder);
        }
        if position.position.revision != session.revision().next() {
            self.lost_change = true;
            return Err(FollowerError::Gap);
        }
        session.at = Some(position);
        if let Some(welcome) = &mut session.welcome {
            welcome.accepted |= accepted;
        }
        if let Snapshot::Behind(table) = &mut session.snapshot {
            for key in keys {
                table.put(key);
            }
            return if self.is_behind(id) { Ok(Vec::new()) } else { self.install(id) };
        }
        let agreed = session.agrees;
        let agrees = match relation {
            Relation::Served => true,
            Relation::Forgotten => false,
            Relation::Conflict => return Err(FollowerError::Forked),
            // The delta continues the served history only if the session agreed with it so far.
            Relation::Newer if !agreed => return Err(FollowerError::Gap),
            Relation::Newer => {
                self.apply(position, keys, accepted);
                true
            }
        };
        self.session(id)?.agrees = agrees;
        Ok(if agrees { vec![Effect::Ack(position.position.revision)] } else { Vec::new() })
    }

    /// How `position` relates to what is served, if it is of the served epoch.
    fn relation(&self, position: &ProvenPosition) -> Relation {
        let revision = position.position.revision;
        if revision > self.revision() {
            return Relation::Newer;
        }
        match self.served.binary_search_by_key(&revision, |served| served.position.revision) {
            Ok(at) if self.served.get(at) == Some(position) => Relation::Served,
            Ok(_) => Relation::Conflict,
            Err(_) => Relation::Forgotten,
        }
    }

    fn apply(&mut self, position: ProvenPosition, keys: Vec<T::Entry>, accepted: bool) {
        for key in keys {
            self.table.put(key);
        }
        if accepted {
            self.table.release();
        }
        self.table.publish(position.position.revision);
        self.serve(position);
    }

    fn serve(&mut self, position: ProvenPosition) {
        if self.served.len() == RECENT {
            self.served.pop_front();
        }
        self.served.push_back(position);
    }

    fn grant(&mut self, id: HolderSession, seq: u64, duration: Duration, wall: Timestamp) -> Effects {
        // A lease covers everything that its session has sent before it, so all of that must be in the table.
        let covered = self.sessions.get(&id).is_some_and(|session| session.is_complete() && session.agrees);
        if !covered || duration.is_zero() {
            return Vec::new();
        }
        let Some(anchor) = self.holder.granted(id, seq, duration) else { return Vec::new() };
        vec![Effect::SetWallTime { at: anchor, wall }, Effect::PublishLease(self.holder.lease())]
    }
}
