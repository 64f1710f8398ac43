//! Which steps a world allows, and the properties that must hold in it.

use keyward_domain::AdminLife;
use keyward_protocol::Policy;
use keyward_protocol::admin::{EnforcedBy, FenceStatus};
use stateright::{Model, Property};

use crate::admin::enforced_in;
use crate::database::{Database, Kind, Log};
use crate::mutants::Mutant;
use crate::state::{Call, Heartbeat, Split, State, Task, Validation, Validator, Violation, ticks};

/// By how many ticks a validator's clock may lag when it judges its lease, compared to when it asked for it.
pub(crate) const LAG: u64 = 1;

/// What can happen in a world. Whatever can happen may happen any number of times unless there is a number here. Clocks of
/// validators may always lag, and admins may always be cut off from the database: they need not send a heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// The longest lease that a grant gives, in ticks; D is that and the margin.
    pub(crate) lease: u64,
    /// 1 or 2.
    pub(crate) admins: usize,
    /// Admins send heartbeats, because others may use the database.
    pub(crate) shared: bool,
    pub(crate) validators: usize,
    /// The admins that validators connect to: the first so many are out of their reach.
    pub(crate) unreachable: usize,
    /// Renewals that a session has under way at once.
    pub(crate) renewals: usize,
    /// Admins crash and start again.
    pub(crate) kills: bool,
    /// The first so many validators crash and start again, lose streams and say Goodbye, if the world allows that.
    pub(crate) disturbed: usize,
    /// Validators crash and start again.
    pub(crate) crashes: bool,
    /// Streams break.
    pub(crate) cuts: bool,
    /// Validators send Goodbye and connect again.
    pub(crate) goodbyes: bool,
    /// What validators send arrives late, and either end notices late that a stream broke.
    pub(crate) late_up: bool,
    /// What admins send arrives late: grants and snapshots too, not deltas alone.
    pub(crate) late_down: bool,
    /// Validations are paused between their reads.
    pub(crate) pauses: bool,
    /// An admin may start again with leases of one tick.
    pub(crate) shortens: bool,
    /// How many lives may begin after the first one of each admin.
    pub(crate) lives: usize,
    /// The last admin may begin after the first deactivation.
    pub(crate) late_admin: bool,
    /// The client may ask the other admin again.
    pub(crate) retries: bool,
    /// Admins ask each other how far their validators are.
    pub(crate) asks: bool,
    /// Which admin evicts lives without heartbeats.
    pub(crate) evicts: [bool; 2],
    /// Whose heartbeats take time: each is sent, commits and is answered, or is lost.
    pub(crate) split: [bool; 2],
    /// How many times the database is replaced by an earlier state of itself, without the last change.
    pub(crate) restores: u8,
    /// That earlier state has no row of a life.
    pub(crate) restores_lose_rows: bool,
    /// A standby becomes the primary while the last admin stays at the former primary, which takes its heartbeats. Admins
    /// reach each other.
    pub(crate) splits: bool,
    /// Every admin sends a heartbeat in each tick, and more at any time.
    pub(crate) punctual: bool,
    /// How many changes precede the deactivation.
    pub(crate) unrelated: usize,
    /// An owner accepts new epochs.
    pub(crate) accepts: bool,
    pub(crate) mutant: Option<Mutant>,
}

/// One step. Numbers are those of validators (`v`) and of admins (`n`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// A tick passes.
    Tick,
    /// A tick passes that the clocks of validators do not count; only a mutant's.
    Sleep,
    /// The database loses the last change.
    Restore,
    AcceptEpoch(usize),
    /// A second database server takes writes.
    Split,
    /// The last admin connects to the new primary.
    Rejoin,
    /// A mutant: Deactivate is called, and its fence begins.
    CallArrives,
    /// The deactivation commits, and its fence begins.
    Deactivate(usize),
    /// The client asks the other admin.
    Retry(usize),
    /// Deactivate returns ENFORCED.
    Return(usize),
    /// Deactivate ends because the history changed.
    Fail(usize),
    /// An admin reads the next entry of the log, and queues it to every session.
    ReadLog(usize),
    Heartbeat(usize, HeartbeatStep),
    CheckHistory(usize),
    MendHistory(usize),
    Reconnect(usize),
    Reload(usize),
    /// A peer that was asked about that life answers.
    AskPeer(usize, AdminLife),
    /// Its answer arrives.
    PeerAnswers(usize),
    /// A mutant takes a connection that breaks for an answer.
    LosePeer(usize, AdminLife),
    /// An admin crashes, and its next process reads the database.
    Kill(usize),
    /// The same, and the next process grants shorter leases.
    Shorten(usize),
    /// A validator's Hello reaches an admin.
    Connect(usize, usize),
    /// A mutant counts the session only now.
    Join(usize, usize),
    Renew(usize, usize),
    AdminReceives(usize, usize),
    AdminReceivesFormer(usize, usize),
    AdminNotices(usize, usize),
    AdminNoticesFormer(usize, usize),
    ValidatorReceives(usize, usize),
    ValidatorNotices(usize, usize),
    Goodbye(usize, usize),
    /// A mutant drops the lease of a session that it has left only now.
    DropLease(usize),
    Crash(usize),
    /// A validation starts, and reads the lease.
    Validate(usize),
    /// It reads the clock, which may lag.
    ReadClock(usize),
    /// It reads the table, and is answered.
    ReadTable(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeartbeatStep {
    /// From the sending to the answer.
    Whole,
    Send,
    Commit,
    Answer,
    /// The heartbeat or its answer is lost.
    Lose,
}

impl Action {
    const fn is_restart(self) -> bool {
        matches!(self, Self::Kill(_) | Self::Shorten(_))
    }
}

struct Steps<'a>(&'a mut Vec<Action>);

impl Steps<'_> {
    fn add(&mut self, action: Action, is_possible: bool) {
        if is_possible {
            self.0.push(action);
        }
    }
}

impl World {
    /// The policy by which the first lives grant leases.
    pub(crate) fn policy(&self) -> Policy {
        let margin = if self.is(Mutant::NoMargin) { 0 } else { LAG };
        Policy { lease: ticks(self.lease + margin), clock_rate_error_ppm: 0, clock_margin: ticks(margin) }
    }

    fn shorter_policy(&self) -> Policy {
        Self { lease: 1, ..*self }.policy()
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// A database that is new, admins that have just started, and validators without a table. `late_admin`: the last admin
    /// has no row yet.
    pub(crate) fn first(&self, late_admin: bool) -> State {
        let mut state = State {
            database: Database::new(self.unrelated),
            split: Split::Ahead,
            admins: Vec::new(),
            validators: vec![Validator::new(self.admins); self.validators],
            call: Call::Ahead,
            deactivation: None,
            answer: None,
            violation: None,
            joined: 0,
            now: keyward_protocol::Instant::default(),
            validator_now: keyward_protocol::Instant::default(),
        };
        for n in 0..self.admins {
            let admin = self.admin(&mut state, n);
            state.admins.push(admin);
        }
        if late_admin {
            // Like an admin that has been evicted: it begins a life with its next heartbeat.
            state.database.rows.pop();
        }
        state
    }

    /// Every step that is possible.
    pub(crate) fn possible(&self, state: &State) -> Vec<Action> {
        let mut actions = vec![Action::Tick];
        let mut steps = Steps(&mut actions);
        let log = &state.database.log;
        let returned = state.call == Call::Returned;
        let ahead = state.call == Call::Ahead;
        let may_commit = |n: usize| state.admins[n].may_commit(log);
        steps.add(Action::Sleep, self.is(Mutant::ClockStopsInSleep));
        steps.add(Action::Restore, state.database.restores < self.restores && log.revision.0 > 0);
        // After the return, a second server changes nothing that was promised.
        steps.add(Action::Split, self.splits && state.split == Split::Ahead && !returned);
        // Nothing shows a second server that is gone before two heartbeats have shown it.
        let is_noticed = state.admins[0].node.peers_elsewhere() > 0;
        steps.add(Action::Rejoin, matches!(state.split, Split::Now(_)) && is_noticed);
        let early = self.is(Mutant::FenceBeforeCommit);
        steps.add(Action::CallArrives, early && ahead);
        let calls = if early { state.call == Call::Arrived } else { ahead };
        steps.add(Action::Deactivate(0), calls && may_commit(0));
        if self.restores > 0 {
            for n in 0..self.admins {
                steps.add(Action::Deactivate(n), n > 0 && calls && may_commit(n));
                steps.add(Action::AcceptEpoch(n), self.accepts && may_commit(n) && !log.is_accepted());
            }
        }
        if let Call::Waiting(n) = state.call {
            let fence = state.fence();
            let enforced = matches!(fence, Some(FenceStatus::Enforced { .. }));
            steps.add(Action::Return(n), enforced || self.is(Mutant::RetryReturnsAtOnce));
            steps.add(Action::Fail(n), fence == Some(FenceStatus::HistoryChanged));
            steps.add(Action::Retry(n), self.retries);
            steps.add(Action::PeerAnswers(n), state.answer.is_some());
            let peers = || state.admins[n].node.peers().map(|node| node.life);
            for life in peers().filter(|_| self.asks && self.admins == 2) {
                steps.add(Action::AskPeer(n, life), state.answer.is_none());
                steps.add(Action::LosePeer(n, life), self.is(Mutant::SilenceIsAnAnswer));
            }
        }
        for n in 0..self.admins {
            self.possible_at_admin(state, n, returned, &mut steps);
        }
        for v in 0..self.validators {
            self.possible_at_validator(state, v, returned, &mut steps);
            for n in self.unreachable..self.admins {
                self.possible_between(state, v, n, &mut steps);
            }
        }
        actions
    }

    fn possible_at_admin(&self, state: &State, n: usize, returned: bool, steps: &mut Steps<'_>) {
        let admin = &state.admins[n];
        let history = admin.node.history();
        let idle = admin.task == Task::None;
        let unread = history.head() != state.database_of(n).log;
        steps.add(Action::ReadLog(n), idle && unread);
        let checks = self.restores > 0 && idle && (history.is_in_doubt() || history.suspect().is_some());
        steps.add(Action::CheckHistory(n), checks);
        steps.add(Action::MendHistory(n), matches!(admin.task, Task::Mend { .. }));
        steps.add(Action::Reconnect(n), admin.task == Task::Reconnect);
        steps.add(Action::Reload(n), matches!(admin.task, Task::Reload { .. }));
        // Of two admins that share a database, the next process knows the deactivation once it has returned.
        let kills = self.kills && self.may_begin_life(state) && !(returned && self.admins == 2 && self.restores == 0);
        steps.add(Action::Kill(n), kills);
        let shortens = self.shortens && *admin.node.policy() != self.shorter_policy();
        steps.add(Action::Shorten(n), shortens);
        if !self.shared {
            return;
        }
        let (split, heartbeat) = (self.split[n], &admin.heartbeat);
        let is_sent = *heartbeat == Some(Heartbeat::Sent);
        steps.add(Action::Heartbeat(n, HeartbeatStep::Whole), !split);
        steps.add(Action::Heartbeat(n, HeartbeatStep::Send), split && heartbeat.is_none());
        steps.add(Action::Heartbeat(n, HeartbeatStep::Commit), is_sent);
        steps.add(Action::Heartbeat(n, HeartbeatStep::Answer), heartbeat.is_some() && !is_sent);
        steps.add(Action::Heartbeat(n, HeartbeatStep::Lose), heartbeat.is_some());
    }

    fn possible_at_validator(&self, state: &State, v: usize, returned: bool, steps: &mut Steps<'_>) {
        let validator = &state.validators[v];
        let fresh = validator.follower.position().is_none() && validator.streams().next().is_none();
        steps.add(Action::Crash(v), self.crashes && v < self.disturbed && !fresh);
        let drops = self.is(Mutant::GoodbyeBeforeLeaseDropped) && validator.lease != validator.follower.lease();
        steps.add(Action::DropLease(v), drops);
        if self.pauses {
            // Without a lease, or with a table that refuses the token, the validation would end with its first read.
            let goes_on = if self.is(Mutant::TableBeforeLease) {
                validator.follower.table().accepts()
            } else {
                validator.is_leased(state.validator_now)
            };
            steps.add(Action::Validate(v), returned && validator.validation.is_none() && goes_on);
            let clock = matches!(validator.validation, Some(Validation::Lease(_) | Validation::Table));
            steps.add(Action::ReadClock(v), clock);
            steps.add(Action::ReadTable(v), validator.validation == Some(Validation::Clock));
        }
    }

    fn possible_between(&self, state: &State, v: usize, n: usize, steps: &mut Steps<'_>) {
        let validator = &state.validators[v];
        let link = &validator.links[n];
        let disturbed = v < self.disturbed;
        steps.add(Action::AdminReceivesFormer(v, n), link.former.as_ref().is_some_and(|f| !f.up.is_empty()));
        // A stream that ended is known to have ended at some time, also without a fault.
        steps.add(Action::AdminNoticesFormer(v, n), link.former.is_some());
        let Some(stream) = &link.stream else {
            steps.add(Action::Connect(v, n), true);
            return;
        };
        let heard = stream.open && stream.joined;
        let complete = validator.follower.is_complete(stream.session);
        steps.add(Action::Join(v, n), stream.open && !stream.joined);
        steps.add(Action::Renew(v, n), heard && complete && stream.renewals.len() < self.renewals);
        steps.add(Action::AdminReceives(v, n), heard && !stream.up.is_empty());
        steps.add(Action::AdminNotices(v, n), heard && self.late_up && self.cuts && disturbed);
        steps.add(Action::ValidatorReceives(v, n), !stream.down.is_empty());
        steps.add(Action::ValidatorNotices(v, n), self.cuts && disturbed || !stream.open);
        steps.add(Action::Goodbye(v, n), complete && self.goodbyes && disturbed);
    }

    /// Takes one step. Returns `None` if it has no effect.
    pub(crate) fn take(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick => {
                state.now = state.now.plus(ticks(1));
                state.validator_now = state.validator_now.plus(ticks(1));
                if self.punctual {
                    (0..self.admins).rev().for_each(|n| self.heartbeat(state, n, HeartbeatStep::Whole));
                }
            }
            Action::Sleep => state.now = state.now.plus(ticks(1)),
            Action::Restore => self.restore(state),
            Action::AcceptEpoch(n) => self.accept_epoch(state, n),
            Action::Split => state.split = Split::Now(state.database.clone()),
            Action::Rejoin => state.split = Split::Over,
            Action::CallArrives => self.arrive(state),
            Action::Deactivate(n) => self.deactivate(state, n),
            Action::Retry(n) => self.retry(state, n),
            Action::Return(n) => self.return_enforced(state, n),
            Action::Fail(n) => self.fail(state, n),
            Action::ReadLog(n) => self.read_log(state, n)?,
            Action::Heartbeat(n, step) => self.heartbeat(state, n, step),
            Action::CheckHistory(n) => self.check_history(state, n),
            Action::MendHistory(n) => {
                let Task::Mend { was_lost, suspect } = state.admins[n].task else { return None };
                self.mend_history(state, n, was_lost, suspect);
            }
            Action::Reconnect(n) => self.reconnect(state, n),
            Action::Reload(n) => {
                let Task::Reload { mended } = state.admins[n].task else { return None };
                self.reload(state, n, &mended);
            }
            Action::AskPeer(n, life) => self.ask_peer(state, n, life)?,
            Action::PeerAnswers(n) => {
                let (life, cleared) = state.answer?;
                self.peer_answers(state, n, life, cleared);
            }
            Action::LosePeer(n, life) => self.peer_answers(state, n, life, Default::default()),
            Action::Kill(n) => self.kill(state, n, *state.admins[n].node.policy()),
            Action::Shorten(n) => self.kill(state, n, self.shorter_policy()),
            Action::Connect(v, n) => self.connect(state, v, n)?,
            Action::Join(v, n) => self.join(state, v, n)?,
            Action::Renew(v, n) => self.renew(state, v, n)?,
            Action::AdminReceives(v, n) => self.admin_receives(state, v, n),
            Action::AdminReceivesFormer(v, n) => self.admin_receives_former(state, v, n),
            Action::AdminNotices(v, n) => self.admin_notices(state, v, n, false)?,
            Action::AdminNoticesFormer(v, n) => self.admin_notices(state, v, n, true)?,
            Action::ValidatorReceives(v, n) => self.validator_receives(state, v, n)?,
            Action::ValidatorNotices(v, n) => self.end_stream(state, v, n, None),
            Action::Goodbye(v, n) => self.goodbye(state, v, n)?,
            Action::DropLease(v) => {
                let validator = &mut state.validators[v];
                validator.lease = validator.follower.lease();
            }
            Action::Crash(v) => self.crash(state, v),
            Action::Validate(v) => self.validate(&mut state.validators[v]),
            Action::ReadClock(v) => self.read_clock(state, v),
            Action::ReadTable(v) => self.read_table(state, v),
        }
        self.deliver_at_once(state);
        self.poll_fence(state);
        self.check_answers(state);
        Some(())
    }

    /// Returns `true` if the wait of the fence after a step is longer than D', or longer than it was.
    fn is_prolonged(&self, before: &State, after: &State, passed: u64, action: Action) -> bool {
        // Where a database is shared the clock alone ends the wait; after a fork it begins anew.
        if self.shared || self.restores > 0 || after.call != Call::Waiting(0) || !after.has_applied(0) {
            return false;
        }
        let longest = self.policy().wait_out().as_secs();
        let left = |state: &State| enforced_in(&state.admins[0].node, state.now, longest + 1);
        let Some(after_step) = left(after).filter(|left| *left <= longest) else { return true };
        if action.is_restart() || !before.has_applied(0) {
            return false;
        }
        left(before).is_some_and(|before| before.saturating_sub(passed) < after_step)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let late = self.late_admin.then(|| self.first(true));
        late.into_iter().chain([self.first(false)]).map(|state| state.canonical(self)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // A violation is final: nothing is to be found behind it.
        if state.violation.is_none() {
            actions.extend(self.possible(state));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, action)?;
        let passed = u64::from(state.now != before.now);
        if state.violation.is_none() && self.is_prolonged(before, &state, passed, action) {
            state.violation = Some(Violation::Prolonged);
        }
        let state = state.canonical(self);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always("no violation", |_, state: &State| state.violation.is_none())];
        let reachable = Property::<Self>::sometimes;
        properties.extend([
            reachable("enforced by waiting while a stale validator runs", |_, state| {
                let waited = matches!(state.fence(), Some(FenceStatus::Enforced { by: EnforcedBy::WaitOut, .. }));
                waited && state.validators.iter().any(|validator| validator.follower.table().accepts())
            }),
            reachable("a valid lease answers DEACTIVATED after the return", |_, state| {
                let rejects = |validator: &Validator| validator.rejects(state.validator_now);
                state.call == Call::Returned && state.validators.iter().any(rejects)
            }),
        ]);
        // A peer's acknowledgements are known only by asking it.
        if self.admins == 1 || self.asks {
            properties.push(reachable("enforced by acks while a validator answers", |_, state| {
                let by_acks = matches!(state.fence(), Some(FenceStatus::Enforced { by: EnforcedBy::Acks, .. }));
                by_acks && state.validators.iter().any(|validator| validator.rejects(state.validator_now))
            }));
        }
        if self.validators > 1 {
            properties.push(reachable("one validator accepts and one rejects while Deactivate runs", |_, state| {
                let now = state.validator_now;
                let waits = matches!(state.call, Call::Waiting(_));
                waits
                    && state.validators.iter().any(|v| v.accepts(now))
                    && state.validators.iter().any(|v| v.rejects(now))
            }));
        }
        if self.admins - self.unreachable == 2 {
            properties.push(reachable("leases of both admins, before a move and after it", |_, state| {
                state.validators.iter().any(|validator| {
                    let leased = |stream: &crate::state::Stream| {
                        validator.follower.lease_of(stream.session).is_valid_at(state.validator_now)
                    };
                    validator.streams().filter(|stream| leased(stream)).count() == 2
                })
            }));
        }
        if self.restores > 0 {
            properties.extend(self.reachable_forks());
        }
        if self.splits {
            properties.extend([
                reachable("a fence waits while the heartbeats of a peer reach another server", |_, state| {
                    matches!(state.split, Split::Now(_))
                        && state.call == Call::Waiting(0)
                        && state.admins[0].node.peers_elsewhere() > 0
                }),
                reachable("a fence is enforced after the peer has returned", |_, state| {
                    let enforced = matches!(state.fence(), Some(FenceStatus::Enforced { .. }));
                    state.split == Split::Over && state.call == Call::Waiting(0) && enforced
                }),
            ]);
        }
        properties
    }
}

impl World {
    fn reachable_forks(&self) -> Vec<Property<Self>> {
        let reachable = Property::<Self>::sometimes;
        let mut properties = vec![
            reachable("a fence ends because the history changed", |_, state| state.call == Call::Failed),
            reachable("a withheld token is refused under a lease of a new epoch", |_, state| {
                let lost = state.deactivation.is_some() && !state.is_deactivated() && state.database.log.refuses();
                lost && state.validators.iter().any(|validator| validator.rejects(state.validator_now))
            }),
            reachable("a validator is served in a new epoch", |_, state| {
                let served = |validator: &Validator| {
                    let position = validator.follower.position().map(|known| known.position);
                    validator.is_leased(state.validator_now) && position == Some(state.database.log)
                };
                !state.database.log.is_accepted() && state.validators.iter().any(served)
            }),
        ];
        if self.kills {
            properties.push(reachable("a validator refuses what only its own memory refuses", |_, state| {
                state.validators.iter().any(|validator| {
                    validator.rejects(state.validator_now)
                        && validator.follower.table().history_refuses() == Some(false)
                })
            }));
        }
        if self.kills && self.validators > 1 {
            properties.push(reachable("every validator refuses what one of them reported", |_, state| {
                let reported = state.database.log.kinds().any(|kind| kind == Kind::Reported);
                reported && state.validators.iter().all(|validator| validator.rejects(state.validator_now))
            }));
        }
        if self.accepts {
            properties.push(reachable("a withheld token is accepted once an owner accepts the epoch", |_, state| {
                let was_refused = state.deactivation.is_some() && state.database.accepted_once;
                was_refused && state.validators.iter().any(|validator| validator.accepts(state.validator_now))
            }));
        }
        properties
    }
}
