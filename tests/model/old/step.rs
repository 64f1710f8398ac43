//! One step at a time.

use std::collections::VecDeque;

use keyward_replica::{Instant, Policy, SessionId, Sessions};

use crate::mutants::Mutant;
use crate::shared::{Shared, Step};
use crate::state::{Asked, BEFORE, Call, DEACTIVATION, Down, Ended, State, Stream, Up, Validator, Wrong, at};
use crate::world::{Faults, LAG, World};

/// What happens next. The number says to which validator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Something happens between the admin and a database that others use too.
    AtTheDatabase(Step),
    /// A tick passes.
    Tick,
    /// A tick passes that validators' clocks do not count; only a mutant's.
    Doze,
    /// The deactivation commits.
    Deactivate,
    /// The publisher appends the deactivation to every queue.
    Append,
    /// Deactivate returns ENFORCED.
    Return,
    /// The admin crashes, and its next process reads the database.
    AdminRestart,
    /// The same, and the next process is told to give shorter leases from now on.
    Shorten,
    /// A validator's Hello reaches the admin.
    Connect(usize),
    /// A mutant counts the session only now.
    Join(usize),
    /// A validator is about to send a renewal.
    Renew(usize),
    /// The admin takes a message from a stream.
    Hear(usize),
    /// The same from the stream before.
    HearFormer(usize),
    /// A validator takes a message from its stream.
    Apply(usize),
    /// A mutant acknowledges the next message without applying it.
    AckEarly(usize),
    /// The admin notices that the stream is broken.
    AdminLoses(usize),
    /// The admin notices that the stream before is broken.
    AdminLosesFormer(usize),
    /// The validator notices that the stream is broken.
    ValidatorLoses(usize),
    /// A validator stops answering, says goodbye and ends the stream.
    Goodbye(usize),
    /// A mutant gives up its lease only now.
    Leave(usize),
    /// A validator crashes and starts again.
    ValidatorRestart(usize),
    /// A call of ValidateToken starts, and reads the lease.
    Ask(usize),
    /// It reads the clock, which may lag by so many ticks.
    ReadClock(usize),
    /// It reads the table and is answered.
    ReadTable(usize),
}

impl Action {
    /// Whether the admin is another process afterwards.
    pub(crate) fn is_restart(self) -> bool {
        matches!(self, Self::AdminRestart | Self::Shorten)
    }

    /// How many ticks it takes on the admin's clock, and on validators'.
    pub(crate) fn time(self) -> (u64, u64) {
        match self {
            Self::Tick => (1, 1),
            Self::Doze => (1, 0),
            _ => (0, 0),
        }
    }
}

impl World {
    /// Every step that can be taken and changes anything.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        let own = || state.sessions.enforcement(DEACTIVATION, at(0)).missing == 0;
        let early = self.is(Mutant::EnforcedBeforeAppend) && own();
        let retried = self.is(Mutant::RetryNoop);
        let possible = [
            (Action::Doze, self.is(Mutant::MonoClock)),
            (Action::Deactivate, state.call == Call::Ahead),
            (Action::Append, state.call != Call::Ahead && !state.appended),
            (Action::Return, state.call == Call::Waiting && (retried || early || state.enforced().is_some())),
            (Action::AdminRestart, self.faults.crashes),
            (Action::Shorten, self.shortens && *state.sessions.policy() != self.shorter_policy()),
        ];
        actions.extend(possible.into_iter().filter_map(|(action, possible)| possible.then_some(action)));
        let at_the_database = state.shared.iter().flat_map(|shared| shared.possible(state.call, self.faults.cuts));
        actions.extend(at_the_database.map(Action::AtTheDatabase));
        for (v, validator) in state.validators.iter().enumerate() {
            self.possible_at(v, validator, state.call, actions);
        }
    }

    fn possible_at(&self, v: usize, validator: &Validator, call: Call, actions: &mut Vec<Action>) {
        let stream = validator.stream.as_ref();
        let heard = stream.is_some_and(|s| s.heard && s.joined);
        let complete = stream.is_some_and(|s| s.complete);
        let former = validator.former.as_ref();
        let faults = if v < self.disturbed { self.faults } else { Faults::NONE };
        let is_delta = |down: &Down| matches!(down, Down::Delta { acked: false });
        let possible = [
            (Action::Connect(v), stream.is_none()),
            (Action::Join(v), stream.is_some_and(|s| s.heard && !s.joined)),
            (Action::Renew(v), heard && complete && validator.renewals < self.renewals),
            (Action::Hear(v), heard && stream.is_some_and(|s| !s.up.is_empty())),
            (Action::HearFormer(v), former.is_some_and(|f| !f.up.is_empty())),
            (Action::Apply(v), stream.is_some_and(|s| !s.down.is_empty())),
            (
                Action::AckEarly(v),
                self.is(Mutant::AckBeforeApply) && stream.is_some_and(|s| s.down.front().is_some_and(is_delta)),
            ),
            (Action::AdminLoses(v), heard && faults.cuts),
            // A stream that ended is known to have ended at some time, also without a fault.
            (Action::AdminLosesFormer(v), former.is_some()),
            (Action::ValidatorLoses(v), stream.is_some_and(|s| faults.cuts || !s.heard)),
            (Action::Goodbye(v), complete && faults.goodbyes),
            (Action::Leave(v), self.is(Mutant::GoodbyeFirst) && stream.is_none() && validator.is_leased()),
            (Action::ValidatorRestart(v), faults.crashes),
            // Without a lease the call would end here.
            (Action::Ask(v), call == Call::Returned && validator.asked.is_none() && self.may_answer(validator)),
            (Action::ReadClock(v), matches!(validator.asked, Some(Asked::Lease(_) | Asked::Table(_)))),
            (Action::ReadTable(v), validator.asked == Some(Asked::Clock)),
        ];
        actions.extend(possible.into_iter().filter_map(|(action, possible)| possible.then_some(action)));
    }

    fn may_answer(&self, validator: &Validator) -> bool {
        validator.is_leased() || (self.is(Mutant::StateBeforeLease) && validator.table.is_some())
    }

    /// Takes one step.
    pub(crate) fn take(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick | Action::Doze => {}
            Action::AtTheDatabase(step) => self.at_the_database(state, step),
            Action::Deactivate => {
                state.call = Call::Waiting;
                state.shared.iter_mut().for_each(Shared::deactivated);
            }
            Action::Append => append(state),
            Action::Return => state.call = Call::Returned,
            Action::AdminRestart => self.admin_restart(state, *state.sessions.policy()),
            Action::Shorten => self.admin_restart(state, self.shorter_policy()),
            Action::Connect(v) => self.connect(state, v),
            Action::Join(v) => join(state, v),
            Action::Renew(v) => self.renew(&mut state.validators[v]),
            Action::Hear(v) => self.hear(state, v),
            Action::HearFormer(v) => self.hear_former(state, v),
            Action::Apply(v) => self.apply(state, v),
            Action::AckEarly(v) => ack_early(&mut state.validators[v]),
            Action::AdminLoses(v) => self.admin_loses(state, v),
            Action::AdminLosesFormer(v) => {
                let former = state.validators[v].former.take();
                self.broke(&mut state.sessions, former.map(|former| former.id));
            }
            Action::ValidatorLoses(v) => self.end_stream(state, v, None),
            Action::Goodbye(v) => self.goodbye(state, v),
            Action::Leave(v) => state.validators[v].holder.drop_all(),
            Action::ValidatorRestart(v) => self.validator_restart(state, v),
            Action::Ask(v) => self.ask(&mut state.validators[v]),
            Action::ReadClock(v) => self.read_clock(state, v),
            Action::ReadTable(v) => read_table(state, v),
        }
    }

    fn admin_restart(&self, state: &mut State, policy: Policy) {
        let former_lives = match self.mutant {
            Some(Mutant::RestartForgets) => None,
            Some(Mutant::OnlyLastLife) => Some(*state.sessions.policy()),
            // The longest that any former life gave leases by.
            _ => Some(self.policy()),
        };
        let former_lives = if let Some(shared) = &mut state.shared {
            shared.restart(state.call);
            None
        } else {
            former_lives
        };
        state.sessions = Sessions::new(policy, former_lives, at(0));
        state.appended = state.call != Call::Ahead;
        for validator in &mut state.validators {
            validator.former = None;
            if let Some(stream) = &mut validator.stream {
                stream.heard = false;
                stream.up.clear();
            }
        }
    }

    /// A Hello arrives; whether it lay long in the network makes no difference.
    fn connect(&self, state: &mut State, v: usize) {
        let has = if state.appended { DEACTIVATION } else { BEFORE };
        let validator = &mut state.validators[v];
        // Nothing that could still count for a clock that lags is forgotten.
        let session = validator.holder.begin(at(0));
        let down = match validator.table {
            None => VecDeque::from([Down::Snapshot(has)]),
            Some(table) if table < has => VecDeque::from([Down::Welcome, Down::Delta { acked: false }]),
            Some(_) => VecDeque::from([Down::Welcome]),
        };
        // A number that no session has; the canonical state has another.
        let id = SessionId(1_000 + v as u64);
        validator.stream =
            Some(Stream { id, session, heard: true, joined: false, complete: false, up: VecDeque::new(), down });
        if !self.is(Mutant::JoinAfterSnapshot) {
            join(state, v);
        }
    }

    fn renew(&self, validator: &mut Validator) {
        let seq = validator.renewals;
        let Some(session) = validator.stream.as_ref().map(|stream| stream.session) else { return };
        // The clock may be exact now and lag later: that makes leases longest.
        validator.holder.renewing(session, seq, at(LAG));
        if self.is(Mutant::AnchorLatest) {
            (0..seq).for_each(|older| validator.holder.renewing(session, older, at(LAG)));
        }
        let applied = validator.table.unwrap_or_default();
        validator.say(Up::Renew { seq, applied });
    }

    fn hear(&self, state: &mut State, v: usize) {
        let Some(stream) = &mut state.validators[v].stream else { return };
        match stream.up.pop_front() {
            Some(Up::Renew { seq, applied }) => {
                state.sessions.ack(stream.id, applied);
                if self.is(Mutant::WaitProlonged) {
                    rejoin(&mut state.sessions, stream.id, state.appended);
                }
                let Some(basis) = self.basis(state.shared.as_ref()) else { return };
                let Some(duration) = state.sessions.grant(stream.id, basis, at(0)) else { return };
                let grant = Down::Grant { seq: Some(seq), duration };
                if self.is(Mutant::NotFifo) {
                    stream.down.push_front(grant);
                } else {
                    stream.down.push_back(grant);
                }
            }
            Some(Up::Ack) => state.sessions.ack(stream.id, DEACTIVATION),
            Some(Up::Goodbye) | None => {}
        }
    }

    /// One admin with a database to itself is at the head of its own log at any time.
    fn basis(&self, shared: Option<&Shared>) -> Option<Instant> {
        shared.map_or(Some(at(0)), |shared| shared.basis(self))
    }

    fn apply(&self, state: &mut State, v: usize) {
        let validator = &mut state.validators[v];
        let Some(stream) = &mut validator.stream else { return };
        match stream.down.pop_front() {
            Some(Down::Welcome) => stream.complete = true,
            Some(Down::Snapshot(revision)) => {
                stream.complete = true;
                validator.table = Some(revision);
                if revision == DEACTIVATION {
                    validator.say(Up::Ack);
                }
            }
            Some(Down::Delta { acked }) => {
                if validator.table.replace(DEACTIVATION) != Some(BEFORE) {
                    state.wrong = Some(Wrong::Gap);
                }
                if !acked {
                    validator.say(Up::Ack);
                }
            }
            Some(Down::Grant { seq: Some(seq), duration }) if stream.complete => {
                let session = stream.session;
                if self.is(Mutant::LeaseFromReceipt) {
                    validator.holder.renewing(session, seq, at(LAG));
                }
                validator.holder.granted(session, seq, duration);
            }
            Some(Down::Grant { .. }) | None => {}
        }
    }

    fn hear_former(&self, state: &mut State, v: usize) {
        let basis = self.basis(state.shared.as_ref());
        let validator = &mut state.validators[v];
        let Some(former) = &mut validator.former else { return };
        match former.up.pop_front() {
            // The grant goes to a stream that nobody reads, but the admin does not know.
            Some(Up::Renew { applied, .. }) => {
                state.sessions.ack(former.id, applied);
                if let Some(basis) = basis {
                    state.sessions.grant(former.id, basis, at(0));
                }
            }
            Some(Up::Ack) => state.sessions.ack(former.id, DEACTIVATION),
            Some(Up::Goodbye) => {
                state.sessions.goodbye(former.id);
                validator.former = None;
            }
            None => {}
        }
    }

    fn admin_loses(&self, state: &mut State, v: usize) {
        let Some(stream) = &mut state.validators[v].stream else { return };
        stream.heard = false;
        stream.up.clear();
        let id = stream.id;
        self.broke(&mut state.sessions, Some(id));
    }

    fn broke(&self, sessions: &mut Sessions, id: Option<SessionId>) {
        let Some(id) = id else { return };
        if self.is(Mutant::ReleaseOnDisconnect) {
            sessions.goodbye(id);
        } else {
            sessions.broke(id);
        }
    }

    /// Ends a stream at the validator's side. What it has said, and `last`, is still on its way to the admin. There is at
    /// most one such stream: the admin then notices the end of the one before.
    fn end_stream(&self, state: &mut State, v: usize, last: Option<Up>) {
        let validator = &mut state.validators[v];
        let Some(stream) = validator.stream.take() else { return };
        validator.holder.broke(stream.session);
        if !stream.heard || !stream.joined {
            return;
        }
        // Nobody will see what a renewal is answered.
        let said = stream.up.into_iter().map(|up| match up {
            Up::Renew { applied, .. } => Up::Renew { seq: 0, applied },
            other => other,
        });
        let ended = Ended { id: stream.id, up: said.chain(last).collect() };
        let before = validator.former.replace(ended);
        self.broke(&mut state.sessions, before.map(|former| former.id));
    }

    fn goodbye(&self, state: &mut State, v: usize) {
        let validator = &mut state.validators[v];
        if !self.is(Mutant::GoodbyeKeepsLease)
            && !self.is(Mutant::GoodbyeFirst)
            && let Some(stream) = &validator.stream
        {
            validator.holder.leave(stream.session);
        }
        self.end_stream(state, v, Some(Up::Goodbye));
    }

    fn validator_restart(&self, state: &mut State, v: usize) {
        self.end_stream(state, v, None);
        let former = state.validators[v].former.take();
        state.validators[v] = Validator { former, ..Validator::fresh() };
    }

    fn ask(&self, validator: &mut Validator) {
        validator.asked = if self.is(Mutant::StateBeforeLease) {
            validator.table.map(Asked::Table)
        } else {
            Some(Asked::Lease(validator.holder.until()))
        };
    }

    /// The clock lags as far as it may: whatever it would find good otherwise, it finds good then.
    fn read_clock(&self, state: &mut State, v: usize) {
        let validator = &mut state.validators[v];
        match validator.asked.take() {
            Some(Asked::Lease(until)) if at(0) < until => validator.asked = Some(Asked::Clock),
            Some(Asked::Table(BEFORE)) if validator.is_leased() => state.wrong = Some(Wrong::StaleAnswer),
            _ => {}
        }
    }
}

impl Validator {
    /// Sends a message, if anybody listens.
    fn say(&mut self, up: Up) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.heard) {
            stream.up.push_back(up);
        }
    }

    /// Whether a call after the return has found the lease good.
    pub(crate) fn found_leased(&self) -> bool {
        self.asked == Some(Asked::Clock)
    }
}

fn append(state: &mut State) {
    state.appended = true;
    state.sessions.appended(DEACTIVATION);
    state.shared.iter_mut().for_each(Shared::applied);
    for stream in state.validators.iter_mut().filter_map(|v| v.stream.as_mut()).filter(|s| s.heard && s.joined) {
        stream.down.push_back(Down::Delta { acked: false });
    }
}

fn join(state: &mut State, v: usize) {
    if let Some(stream) = &mut state.validators[v].stream {
        stream.joined = true;
        state.sessions.join(stream.id);
    }
}

fn rejoin(sessions: &mut Sessions, id: SessionId, appended: bool) {
    sessions.goodbye(id);
    sessions.join(id);
    sessions.grant(id, at(0), at(0));
    if appended {
        sessions.appended(DEACTIVATION);
    }
}

fn ack_early(validator: &mut Validator) {
    if let Some(Down::Delta { acked }) = validator.stream.as_mut().and_then(|s| s.down.front_mut()) {
        *acked = true;
        validator.say(Up::Ack);
    }
}

fn read_table(state: &mut State, v: usize) {
    let validator = &mut state.validators[v];
    validator.asked = None;
    if validator.table == Some(BEFORE) {
        state.wrong = Some(Wrong::StaleAnswer);
    }
}
