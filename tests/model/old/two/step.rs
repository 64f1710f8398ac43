//! One step at a time.
//!
//! What a validator says takes no time here: an admin that hears of an acknowledgement, a renewal or a goodbye later
//! waits longer, and gives no lease that a renewal of that instant would not get. Streams break for both ends at once.
//! How it is otherwise is searched with one admin.

use std::collections::VecDeque;

use keyward_domain::{AdminLife, Revision};
use keyward_replica::Cleared;

use crate::mutants::Mutant;
use crate::state::{BEFORE, DEACTIVATION, Down, at};
use crate::two::beat::Step;
use crate::two::state::{Admin, Call, Row, SESSION, State, Stream, Validator, life};
use crate::two::world::World;
use crate::world::LAG;

/// What happens next. The number says at which admin, or with which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// A tick passes.
    Tick,
    /// Something happens between an admin and the database.
    AtTheDatabase(usize, Step),
    /// The deactivation commits at the first admin.
    Deactivate,
    /// The client asks the other admin again.
    Retry,
    /// An admin appends the deactivation to every queue.
    Append(usize),
    /// The admin that waits has asked for that life, and the other process answers.
    AskPeer(AdminLife),
    /// The answer arrives.
    HearPeer,
    /// A mutant takes a connection that breaks for an answer.
    LosePeer(AdminLife),
    /// Deactivate returns ENFORCED.
    Return,
    /// An admin crashes, and its next process reads the database.
    AdminRestart(usize),
    /// The validator begins a session.
    Connect(usize),
    /// It asks for a grant, and is granted one.
    Renew(usize),
    /// It takes a message from a stream.
    Apply(usize),
    /// The stream breaks.
    Cut(usize),
    /// The validator gives up the session's lease, and says goodbye.
    Goodbye(usize),
    /// The validator crashes and starts again.
    ValidatorRestart,
}

impl Action {
    /// How many ticks it takes.
    pub(crate) fn time(self) -> u64 {
        u64::from(self == Self::Tick)
    }
}

impl World {
    /// Every step that can be taken.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let (waiting, returned) = (state.waiting(), state.call == Call::Returned);
        let retried = self.is(Mutant::RetryNoop) && waiting == Some(1);
        let possible = [
            (Action::Tick, true),
            (Action::Deactivate, state.call == Call::Ahead),
            (Action::Retry, self.retries && waiting.is_some()),
            (Action::HearPeer, state.answer.is_some()),
            (Action::Return, waiting.is_some_and(|n| retried || state.admins[n].enforced().is_some())),
            (Action::ValidatorRestart, self.crashes && state.validator != Validator::fresh()),
        ];
        actions.extend(possible.into_iter().filter_map(|(action, possible)| possible.then_some(action)));
        if let Some(n) = waiting {
            let lives = state.rows.iter().filter(|row| row.admin != n).map(|row| row.life);
            actions.extend(lives.clone().map(Action::AskPeer));
            actions.extend(lives.filter(|_| self.is(Mutant::SilenceIsAnAnswer)).map(Action::LosePeer));
        }
        for n in 0..2 {
            let (admin, stream) = (&state.admins[n], state.validator.streams[n].as_ref());
            let renews = stream.is_some_and(|stream| stream.complete && stream.renewals == 0);
            let may_begin = state.lives < 2 + self.lives;
            let possible = [
                (Action::Append(n), state.call != Call::Ahead && !admin.applied),
                // Afterwards the next process knows the deactivation, and can be trusted with any validator.
                (Action::AdminRestart(n), self.kills && may_begin && !returned),
                (Action::Connect(n), stream.is_none()),
                (Action::Renew(n), renews),
                (Action::Apply(n), stream.is_some_and(|stream| !stream.down.is_empty())),
                (Action::Cut(n), self.cuts && stream.is_some()),
                (Action::Goodbye(n), self.goodbyes && stream.is_some()),
            ];
            actions.extend(possible.into_iter().filter_map(|(action, possible)| possible.then_some(action)));
            let steps = admin.steps(self.split[n]);
            actions.extend(steps.map(|step| Action::AtTheDatabase(n, step)));
        }
    }

    /// Takes one step; `None`: nothing comes of it.
    pub(crate) fn take(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick => {}
            Action::AtTheDatabase(n, step) => self.at_the_database(state, n, step),
            Action::Deactivate => {
                state.call = Call::Waiting(0);
                state.admins[0].wait();
            }
            Action::Retry => retry(state),
            Action::Append(n) => append(state, n),
            Action::AskPeer(life) => self.ask_peer(state, life)?,
            Action::HearPeer => {
                let (life, cleared) = state.answer.take()?;
                hear_peer(state, life, cleared);
            }
            Action::LosePeer(life) => hear_peer(state, life, Cleared::default()),
            Action::Return => state.call = Call::Returned,
            Action::AdminRestart(n) => self.admin_restart(state, n),
            Action::Connect(n) => self.connect(state, n)?,
            Action::Renew(n) => self.renew(state, n)?,
            Action::Apply(n) => self.apply(state, n),
            Action::Cut(n) => self.cut(state, n),
            Action::Goodbye(n) => self.goodbye(state, n),
            Action::ValidatorRestart => {
                (0..2).for_each(|n| self.cut(state, n));
                state.validator = Validator::fresh();
            }
        }
        if !self.late {
            self.hear_all_but_deltas(state);
        }
        if self.inversion && state.waiting().is_some() && state.validator.is_leased() {
            state.rejected |= state.validator.table == Some(DEACTIVATION);
        }
        Some(())
    }

    /// What is not a delta can only lengthen a lease: heard late, it might as well have been heard at once.
    fn hear_all_but_deltas(&self, state: &mut State) {
        for n in 0..2 {
            let heard = |state: &State| {
                let next = state.validator.streams[n].as_ref()?.down.front().copied()?;
                (!matches!(next, Down::Delta { .. })).then_some(())
            };
            while heard(state).is_some() {
                self.apply(state, n);
            }
        }
    }

    /// The other process answers if it is that life, and none of its validators answers from before the deactivation.
    fn ask_peer(&self, state: &mut State, asked: AdminLife) -> Option<()> {
        let peer = &state.admins[1 - state.waiting()?];
        let is_it = asked == peer.life || self.is(Mutant::AnswersForAnotherLife);
        let has_applied = peer.applied || self.is(Mutant::AnswersBeforeApplied);
        let own = peer.own();
        (is_it && has_applied && own.missing == 0).then_some(())?;
        state.answer = Some((asked, Cleared { acked: own.acked, lapsed: own.lapsed }));
        Some(())
    }

    fn admin_restart(&self, state: &mut State, n: usize) {
        self.cut(state, n);
        state.lives += 1;
        let life = life(state.lives);
        state.rows.push(Row { life, admin: n, beats: [0; 2] });
        state.admins[n] = Admin::fresh(life, state.call != Call::Ahead, self);
        if state.waiting() == Some(n) {
            // The client asks again.
            state.admins[n].wait();
            state.answer = None;
        }
    }

    /// An admin that is behind what the validator knows refuses it.
    fn connect(&self, state: &mut State, n: usize) -> Option<()> {
        let (admin, validator) = (&mut state.admins[n], &mut state.validator);
        let has = if admin.applied { DEACTIVATION } else { BEFORE };
        let down = match validator.table {
            None => VecDeque::from([Down::Snapshot(has)]),
            Some(table) if table < has => VecDeque::from([Down::Welcome, Down::Delta { acked: false }]),
            Some(table) if table == has => VecDeque::from([Down::Welcome]),
            Some(_) if self.is(Mutant::RollBack) => VecDeque::from([Down::Snapshot(has)]),
            Some(_) => return None,
        };
        let session = validator.holder.begin(at(0));
        admin.sessions.join(SESSION);
        validator.streams[n] = Some(Stream { session, complete: false, renewals: 0, down });
        Some(())
    }

    fn renew(&self, state: &mut State, n: usize) -> Option<()> {
        let (admin, validator) = (&mut state.admins[n], &mut state.validator);
        let stream = validator.streams[n].as_mut()?;
        let seq = stream.renewals;
        // The clock may be exact now and lag later: that makes leases longest.
        validator.holder.renewing(stream.session, seq, at(LAG));
        admin.sessions.ack(SESSION, validator.table?);
        let duration = admin.sessions.grant(SESSION, admin.basis.since()?, at(0))?;
        let grant = Down::Grant { seq: Some(seq), duration };
        if self.is(Mutant::NotFifo) {
            stream.down.push_front(grant);
        } else {
            stream.down.push_back(grant);
        }
        Some(())
    }

    fn apply(&self, state: &mut State, n: usize) {
        let alone = state.validator.streams[1 - n].is_none();
        let validator = &mut state.validator;
        let Some(stream) = &mut validator.streams[n] else { return };
        match stream.down.pop_front() {
            Some(Down::Welcome) => stream.complete = true,
            Some(Down::Snapshot(revision)) if self.is(Mutant::RollBack) || validator.table <= Some(revision) => {
                stream.complete = true;
                validator.table = Some(revision);
                ack(&mut state.admins[n], revision);
            }
            // Older than what the other session has brought: invisible until it has come as far.
            Some(Down::Snapshot(_)) if !alone => {}
            Some(Down::Snapshot(_)) => self.cut(state, n),
            Some(Down::Delta { .. }) => {
                stream.complete = true;
                validator.table = Some(DEACTIVATION);
                ack(&mut state.admins[n], DEACTIVATION);
            }
            Some(Down::Grant { seq: Some(seq), duration }) if stream.complete => {
                validator.holder.granted(stream.session, seq, duration);
            }
            Some(Down::Grant { .. }) | None => {}
        }
    }

    fn cut(&self, state: &mut State, n: usize) {
        let Some(stream) = state.validator.streams[n].take() else { return };
        state.validator.holder.broke(stream.session);
        if self.is(Mutant::ReleaseOnDisconnect) {
            state.admins[n].sessions.goodbye(SESSION);
        } else {
            state.admins[n].sessions.broke(SESSION);
        }
    }

    fn goodbye(&self, state: &mut State, n: usize) {
        let Some(stream) = state.validator.streams[n].take() else { return };
        if self.is(Mutant::GoodbyeKeepsLease) {
            state.validator.holder.broke(stream.session);
        } else {
            state.validator.holder.leave(stream.session);
        }
        state.admins[n].sessions.goodbye(SESSION);
    }
}

fn ack(admin: &mut Admin, revision: Revision) {
    admin.sessions.ack(SESSION, revision);
}

fn append(state: &mut State, n: usize) {
    let admin = &mut state.admins[n];
    admin.applied = true;
    admin.sessions.appended(DEACTIVATION);
    admin.basis.applied(DEACTIVATION);
    admin.settled.applied(DEACTIVATION, at(0));
    if let Some(stream) = &mut state.validator.streams[n] {
        stream.down.push_back(Down::Delta { acked: false });
    }
}

fn retry(state: &mut State) {
    let Some(n) = state.waiting() else { return };
    // Were the fence that is left behind to find it enforced, the client might as well have stayed.
    state.admins[n].barrier = None;
    state.answer = None;
    state.admins[1 - n].wait();
    state.call = Call::Waiting(1 - n);
}

fn hear_peer(state: &mut State, life: AdminLife, cleared: Cleared) {
    if let Some(barrier) = state.waiting().and_then(|n| state.admins[n].barrier.as_mut()) {
        barrier.cleared(life, cleared);
    }
}
