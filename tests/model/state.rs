//! Everything that exists at one instant, and its canonical form.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Position, Revision};
use keyward_protocol::Instant;
use keyward_protocol::admin::{Cleared, Event, FenceId, FenceStatus, Node, SessionId};
use keyward_protocol::log::SeenPositions;
use keyward_protocol::validator::{Follower, HolderSession, Lease, Table, Welcome};

use crate::database::{Database, Kind, Log};
use crate::mutants::Mutant;
use crate::world::World;

/// The fence of Deactivate. There is one at a time.
pub(crate) const FENCE: FenceId = FenceId(0);

/// A number of ticks as a duration. Every duration of the model is a number of ticks, so that arithmetic is exact.
pub(crate) const fn ticks(ticks: u64) -> Duration {
    Duration::from_secs(ticks)
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) split: Split,
    pub(crate) admins: Vec<Admin>,
    pub(crate) validators: Vec<Validator>,
    pub(crate) call: Call,
    /// The position of the deactivation, once it is committed.
    pub(crate) deactivation: Option<Position>,
    /// The answer of a peer, on its way to the admin that waits.
    pub(crate) answer: Option<(AdminLife, Cleared)>,
    pub(crate) violation: Option<Violation>,
    /// How many sessions have joined: zero in canonical form.
    pub(crate) joined: u64,
    /// The clock of the admins: zero in canonical form.
    pub(crate) now: Instant,
    /// The clock of the validators: zero in canonical form.
    pub(crate) validator_now: Instant,
}

/// A time in which two database servers take writes: a standby has become the primary, and the last admin is still
/// connected to the former primary.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Split {
    Ahead,
    /// The former primary.
    Now(Database),
    /// The last admin is connected to the new primary too.
    Over,
}

/// Deactivate, as its client sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Call {
    /// Not called.
    Ahead,
    /// A mutant: called, and the fence began, but nothing is committed.
    Arrived,
    /// Committed. The client waits at that admin; if the admin crashes, the client asks its next process again.
    Waiting(usize),
    /// Returned ENFORCED.
    Returned,
    /// Ended with an error, because the history of the database changed.
    Failed,
}

/// A property that does not hold.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Violation {
    /// A validation that started after Deactivate had returned was answered VALID.
    StaleAnswer,
    /// A fence waits longer than D', or something other than a restart prolonged it.
    Prolonged,
    /// A validator missed a change, or received it twice.
    Gap,
    /// A validator went back to an earlier revision of its epoch.
    WentBack,
    /// A validator's table is not what the log contains at its position.
    Mixed,
    /// A validator answered VALID although it had refused the token before.
    ValidatorForgot,
    /// An admin sent the token as accepted although it had sent the token as refused before.
    AdminForgot,
    /// A fence called a revision enforced that the history of its admin does not contain.
    LostButEnforced,
}

/// One admin process, with what is under way between it and the database.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Admin {
    pub(crate) node: Node,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) seen: SeenPositions,
    pub(crate) task: Task,
    /// This process has sent the token as refused, and no epoch was accepted since.
    pub(crate) refused: bool,
}

/// A heartbeat without an answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Heartbeat {
    Sent,
    /// Committed; the answer is on its way.
    Committed {
        log: Position,
        nodes: Vec<AdminNode>,
    },
    /// The life had no row; the answer is on its way.
    Refused,
}

/// What the admin that follows the log is busy with instead.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Task {
    None,
    /// It has looked for its head in the log, and is about to have the history mended.
    Mend {
        was_lost: bool,
        suspect: Option<Position>,
    },
    /// It makes new connections.
    Reconnect,
    /// It loads everything again. `mended`: the end of the log when the history was mended.
    Reload {
        mended: Position,
    },
}

/// The table of the one token.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct TokenTable {
    /// `true` if the table's history refuses the token; `None` if the table does not contain it.
    refused: Option<bool>,
    withheld: bool,
}

impl TokenTable {
    /// Returns `true` if the table's own history refuses the token.
    pub(crate) fn history_refuses(&self) -> Option<bool> {
        self.refused
    }

    /// Returns `true` if a validation that reads the table is answered VALID, given a lease.
    pub(crate) fn accepts(&self) -> bool {
        self.refused == Some(false) && !self.withheld
    }

    /// Returns `true` if the token is withheld, and the table's own history accepts it.
    pub(crate) fn accepts_longer(&self) -> bool {
        self.withheld && self.refused == Some(false)
    }

    /// Returns `true` if the token is refused, for whatever reason.
    pub(crate) fn refuses(&self) -> bool {
        self.refused == Some(true) || self.withheld
    }
}

impl Table for TokenTable {
    type Entry = bool;
    type Ends = bool;

    fn put(&mut self, refused: bool) {
        self.refused = Some(refused);
    }

    fn publish(&mut self, _: Revision) {}

    fn ends(&self) -> bool {
        self.refuses()
    }

    fn withheld(&self) -> bool {
        self.withheld
    }

    fn withhold(&mut self, refused: bool) {
        self.withheld |= refused && self.refused != Some(true);
    }

    fn release(&mut self) {
        self.withheld = false;
    }
}

/// One validator process, and what admins may still receive from the process before it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Validator {
    pub(crate) follower: Follower<TokenTable>,
    /// The lease that requests are answered under.
    pub(crate) lease: Lease,
    /// The connection to each admin.
    pub(crate) links: Vec<Link>,
    pub(crate) validation: Option<Validation>,
    /// This process has refused the token, and no epoch was accepted since.
    pub(crate) refused: bool,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Link {
    pub(crate) stream: Option<Stream>,
    /// The stream before, which the validator has ended and the admin counts among its sessions.
    pub(crate) former: Option<FormerStream>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Stream {
    pub(crate) id: SessionId,
    /// The same session, as the validator numbers it.
    pub(crate) session: HolderSession,
    /// The admin has not noticed a break.
    pub(crate) open: bool,
    /// The admin counts it among its sessions; only a mutant delays that.
    pub(crate) joined: bool,
    /// Renewals without a grant.
    pub(crate) renewals: Vec<u64>,
    pub(crate) next_renewal: u64,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct FormerStream {
    pub(crate) id: SessionId,
    pub(crate) up: VecDeque<Up>,
}

/// A message of a validator.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Up {
    Renew {
        seq: u64,
        applied: Revision,
    },
    Ack(Revision),
    /// The validator denies the token, and the history of the session accepts it.
    ReportWithheld,
    Goodbye,
}

/// A message of an admin. What a snapshot or a delta contains follows from its position.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Down {
    Welcome(Welcome),
    Snapshot(Position),
    Delta(Position),
    Grant { seq: u64, duration: Duration },
}

/// How far a validation has come that started after Deactivate had returned.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Validation {
    /// It has read the lease.
    Lease(Lease),
    /// It has read the clock, and the lease is valid.
    Clock,
    /// A mutant: it has read a table that accepts the token, and nothing else.
    Table,
}

impl Validator {
    /// A process that has just started.
    pub(crate) fn new(admins: usize) -> Self {
        let (follower, links) = (Follower::default(), vec![Link::default(); admins]);
        Self { follower, lease: Lease::NONE, links, validation: None, refused: false }
    }

    /// Returns `true` if a request would be answered under a lease, by a clock that lags as far as it may.
    pub(crate) fn is_leased(&self, now: Instant) -> bool {
        self.lease.is_valid_at(now)
    }

    /// Returns `true` if a request would be answered VALID.
    pub(crate) fn accepts(&self, now: Instant) -> bool {
        self.is_leased(now) && self.follower.table().accepts()
    }

    /// Returns `true` if a request would be answered DEACTIVATED.
    pub(crate) fn rejects(&self, now: Instant) -> bool {
        self.is_leased(now) && self.follower.table().refuses()
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.links.iter().filter_map(|link| link.stream.as_ref())
    }

    fn canonical(&mut self, now: Instant, longest: Duration) {
        let open: Vec<_> = self.streams().map(|stream| stream.session).collect();
        let (follower, renewals) = self.follower.canonical(now, longest, &open);
        self.follower = follower;
        let shifted = |lease: Lease| {
            if lease.is_valid_at(now) { Lease::until(lease.end().relative_to(now)) } else { Lease::NONE }
        };
        self.lease = shifted(self.lease);
        if let Some(Validation::Lease(lease)) = &mut self.validation {
            *lease = shifted(*lease);
        }
        let streams = self.links.iter_mut().filter_map(|link| link.stream.as_mut());
        for (n, (stream, renewals)) in (1..).zip(streams.zip(renewals)) {
            stream.session = HolderSession(n);
            // A renewal without an anchor can be answered by nothing that counts.
            let number = |seq: u64| renewals.binary_search(&seq).map_or(u64::MAX, |at| at as u64);
            for up in &mut stream.up {
                if let Up::Renew { seq, .. } = up {
                    *seq = number(*seq);
                }
            }
            for down in &mut stream.down {
                if let Down::Grant { seq, .. } = down {
                    *seq = number(*seq);
                }
            }
            stream.next_renewal = renewals.len() as u64;
            stream.renewals = (0..stream.next_renewal).collect();
        }
    }
}

impl Admin {
    pub(crate) fn new(node: Node) -> Self {
        let mut seen = SeenPositions::default();
        seen.publish(node.history().head());
        Self { node, heartbeat: None, seen, task: Task::None, refused: false }
    }

    /// The heartbeat counter of a life in the answer that is on its way.
    fn heartbeat_under_way(&self, life: AdminLife) -> Option<i64> {
        let Some(Heartbeat::Committed { nodes, .. }) = &self.heartbeat else { return None };
        nodes.iter().find(|node| node.life == life).map(|node| node.heartbeat)
    }
}

impl State {
    /// The database that an admin is connected to.
    pub(crate) fn database_of(&self, n: usize) -> &Database {
        match &self.split {
            Split::Now(former) if n + 1 == self.admins.len() => former,
            _ => &self.database,
        }
    }

    pub(crate) fn database_of_mut(&mut self, n: usize) -> &mut Database {
        match &mut self.split {
            Split::Now(former) if n + 1 == self.admins.len() => former,
            _ => &mut self.database,
        }
    }

    /// The state of the fence of Deactivate, at the admin where its client waits.
    pub(crate) fn fence(&self) -> Option<FenceStatus> {
        let Call::Waiting(n) = self.call else { return None };
        Some(self.admins[n].node.clone().fence(FENCE, self.now))
    }

    /// Returns `true` if the deactivation is committed and the database has not lost it.
    pub(crate) fn is_deactivated(&self) -> bool {
        self.deactivation.is_some_and(|deactivation| self.database.log.contains(&deactivation))
    }

    /// Returns `true` if Deactivate has returned, and its promise counts: the database has not lost the deactivation. A
    /// database that loses rows of lives keeps the promise only once its fork is recorded: before that, no admin can know
    /// of leases that a life without a row has granted.
    pub(crate) fn is_promised(&self, world: &World) -> bool {
        let is_recorded = |log: Position| log.kinds().any(|kind| kind == Kind::EpochBegan);
        let counts = !world.restores_lose_rows || self.deactivation.is_some_and(is_recorded);
        self.call == Call::Returned && self.is_deactivated() && counts
    }

    /// Returns `true` if that admin has applied the deactivation.
    pub(crate) fn has_applied(&self, n: usize) -> bool {
        let head = self.admins[n].node.history().head();
        self.deactivation.is_some_and(|deactivation| head.contains(&deactivation))
    }

    /// The one state that stands for all that differ from this one in the past only.
    pub(crate) fn canonical(mut self, world: &World) -> Self {
        let (now, validator_now) = (self.now, self.validator_now);
        if self.call == Call::Returned && world.restores == 0 {
            self.forget_the_wait();
        }
        let admins = self.admins.len();
        self.database.rows.iter_mut().for_each(|row| row.heartbeats[admins..].fill(0));
        if let Split::Now(former) = &mut self.split {
            // The last admin evicts no life, so it compares no heartbeats.
            former.rows.iter_mut().for_each(|row| row.heartbeats.fill(0));
        }
        for n in 0..admins {
            self.reduce_admin(n, world);
            self.canonical_admin(n, now, world.evicts[n]);
        }
        for (v, validator) in (0..).zip(&mut self.validators) {
            validator.canonical(validator_now, world.policy().lease);
            for link in &mut validator.links {
                link.stream.iter_mut().for_each(|stream| stream.id = SessionId(2 * v));
                link.former.iter_mut().for_each(|former| former.id = SessionId(2 * v + 1));
            }
        }
        (self.now, self.validator_now, self.joined) = (Instant::default(), Instant::default(), 0);
        self
    }

    /// Drops what no later step depends on.
    fn reduce_admin(&mut self, n: usize, world: &World) {
        let waits_elsewhere = match self.call {
            Call::Ahead | Call::Arrived => n > 0,
            Call::Waiting(at) => at != n,
            Call::Returned | Call::Failed => true,
        };
        let is_last_change = world.restores == 0 && !world.is(Mutant::FenceOfNewestRevision) && self.has_applied(n);
        let admin = &mut self.admins[n];
        if admin.heartbeat.is_none() {
            admin.node.drop_heartbeat();
        }
        if !world.evicts[n] {
            admin.node.drop_evictions();
        }
        if !world.splits || n == 0 {
            admin.node.drop_answered_heartbeat();
        }
        if is_last_change {
            admin.node.drop_leases_of_no_delta();
        }
        if waits_elsewhere && !world.retries && world.restores == 0 {
            admin.node.drop_fences();
        }
    }

    /// Numbers heartbeats, as each admin sees them, no further than is needed to distinguish what it has seen, what is on its
    /// way to it, and what the database has.
    fn canonical_admin(&mut self, n: usize, now: Instant, evicts: bool) {
        let admin = &self.admins[n];
        let row = |life| self.database_of(n).rows.iter().find(|row| row.life == life).map(|row| row.heartbeats[n]);
        let number = |life, heartbeat: i64| {
            let known = [admin.node.newest_heartbeat(life), admin.heartbeat_under_way(life), row(life)];
            let known: BTreeSet<_> = known.into_iter().flatten().collect();
            if evicts { known.range(..heartbeat).count() as i64 } else { 0 }
        };
        let names = (0..).zip(&self.validators).flat_map(|(v, validator)| {
            let link = &validator.links[n];
            let stream = link.stream.as_ref().map(|stream| (stream.id, SessionId(2 * v)));
            let former = link.former.as_ref().map(|former| (former.id, SessionId(2 * v + 1)));
            [stream, former].into_iter().flatten()
        });
        let names: Vec<_> = names.collect();
        let session = |id| names.iter().find(|(old, _)| *old == id).expect("a session without a stream is broken").1;
        let node = admin.node.canonical(now, session, number);
        let mut heartbeat = admin.heartbeat.clone();
        if let Some(Heartbeat::Committed { nodes, .. }) = &mut heartbeat {
            nodes.iter_mut().for_each(|node| node.heartbeat = number(node.life, node.heartbeat));
        }
        let numbered: Vec<_> = self.database.rows.iter().map(|row| number(row.life, row.heartbeats[n])).collect();
        for (row, heartbeat) in self.database.rows.iter_mut().zip(numbered) {
            row.heartbeats[n] = heartbeat;
        }
        let admin = &mut self.admins[n];
        (admin.node, admin.heartbeat) = (node, heartbeat);
    }

    /// Once Deactivate has returned, nothing matters of an admin but its grants, and those depend on no more than the basis,
    /// the log, and the sessions that have a stream.
    fn forget_the_wait(&mut self) {
        let now = self.now;
        self.answer = None;
        let former = if let Split::Now(former) = &mut self.split { Some(former) } else { None };
        for database in [&mut self.database].into_iter().chain(former) {
            database.rows.clear();
            database.lives = 0;
        }
        for (n, admin) in self.admins.iter_mut().enumerate() {
            for link in self.validators.iter_mut().map(|validator| &mut validator.links[n]) {
                if let Some(former) = link.former.take() {
                    admin.node.handle(Event::StreamBroke(former.id), now);
                }
                link.stream.iter_mut().for_each(|stream| stream.up.retain(|up| !matches!(up, Up::Ack(_))));
            }
            admin.node.handle(Event::Registered(AdminLife::from_bytes([0; 16])), now);
            admin.node.keep_only_grants();
            if let Some(Heartbeat::Committed { nodes, .. }) = &mut admin.heartbeat {
                nodes.clear();
            }
        }
    }
}
