//! Steps of the validators, and of what they send to admins and receive from them.

use std::collections::VecDeque;

use keyward_domain::{Position, ProvenPosition, Revision, Timestamp};
use keyward_protocol::admin::{Event, Joined, Known, SessionId};
use keyward_protocol::log::LogRelation;
use keyward_protocol::validator::{Effect, Follower, FollowerError, Message, Welcome};

use crate::database::{Kind, Log};
use crate::mutants::Mutant;
use crate::state::{Down, FormerStream, State, Stream, TokenTable, Up, Validation, Validator, Violation, ticks};
use crate::world::{LAG, World};

const fn proven(position: Position) -> ProvenPosition {
    ProvenPosition { position, mac: [0; 32] }
}

impl Down {
    fn decode(self) -> Message<TokenTable> {
        match self {
            Self::Welcome(welcome) => Message::Welcome(welcome),
            Self::Snapshot(log) => Message::Chunk { keys: vec![log.refuses()], complete: Some(proven(log)) },
            Self::Delta(log) => {
                let kind = log.kinds().last();
                let changes =
                    matches!(kind, Some(Kind::Deactivated | Kind::Withheld | Kind::Reported | Kind::EpochAccepted));
                let keys = changes.then(|| log.refuses()).into_iter().collect();
                Message::Delta { position: proven(log), keys, accepted: kind == Some(Kind::EpochAccepted) }
            }
            Self::Grant { seq, duration } => Message::Grant { seq, duration, wall_time: Timestamp::from_micros(0) },
        }
    }
}

impl Validator {
    fn carry_out(&mut self, n: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::PublishLease(lease) => self.lease = lease,
                // There is nothing to acknowledge of an empty log.
                Effect::Ack(revision) if revision > Revision(0) => self.send(n, Up::Ack(revision)),
                Effect::ReportWithheld if self.follower.table().accepts_longer() => self.send(n, Up::ReportWithheld),
                Effect::Ack(_) | Effect::ReportWithheld | Effect::SetWallTime { .. } | Effect::Serve => {}
            }
        }
    }

    /// Sends a message, which is lost if the admin does not read the stream any more.
    fn send(&mut self, n: usize, up: Up) {
        if let Some(stream) = self.links[n].stream.as_mut().filter(|stream| stream.open) {
            stream.up.push_back(up);
        }
    }
}

impl World {
    /// A Hello reaches the admin. How long it was on its way makes no difference.
    pub(crate) fn connect(&self, state: &mut State, v: usize, n: usize) -> Option<()> {
        let database = state.database_of(n).clone();
        let log = database.log;
        let (node, validator) = (&mut state.admins[n].node, &mut state.validators[v]);
        let known = validator.follower.position().map(|known| known.position);
        if self.is(Mutant::ValidatorGoesBack)
            && known.is_some_and(|known| node.history().relation(&known) == Known::Ahead)
        {
            let links = std::mem::take(&mut validator.links);
            let alone = links.iter().all(|link| link.stream.is_none());
            (validator.links, validator.follower) = (links, Follower::default());
            alone.then_some(())?;
        }
        let opening = validator.follower.begin(state.validator_now);
        let mut from = opening.position.map(|position| position.position);
        let mut continues = self.is(Mutant::WelcomeAlwaysContinues);
        if let Some(position) = from {
            if self.is(Mutant::PositionByRevisionOnly) {
                from = node.history().position_at(position.revision).or(from);
            } else if node.history().relation(&position) == Known::Contained {
                continues = true;
            } else {
                let mut relation = database.relation(&position);
                if self.is(Mutant::SuspectIgnored) && relation == LogRelation::NewlyLost {
                    relation = LogRelation::KnownLost;
                }
                match node.admit(&position, relation, &log) {
                    Ok(contained) => continues |= contained,
                    Err(_) => {
                        validator.follower.break_stream(opening.session);
                        return Some(());
                    }
                }
            }
        }
        // A number that no session has; the canonical form has another.
        let id = SessionId(1_000_000 + state.joined);
        state.joined += 1;
        let from = from.filter(|_| !opening.snapshot);
        let late = self.is(Mutant::JoinAfterSnapshot);
        let joined = if late { node.clone().join(id, from.as_ref()) } else { node.join(id, from.as_ref()) };
        let Ok(joined) = joined else {
            validator.follower.break_stream(opening.session);
            return Some(());
        };
        let history = node.history();
        let (head, snapshot) = (history.head(), joined == Joined::WithSnapshot);
        let welcome = Welcome { epoch: head.epoch, snapshot, accepted: history.is_accepted(), continues };
        let content = match joined {
            Joined::WithSnapshot => vec![Down::Snapshot(head)],
            Joined::WithDeltasAfter(after) => {
                (after.0 + 1..=head.revision.0).map(|at| Down::Delta(head.up_to(Revision(at)))).collect()
            }
        };
        let down = std::iter::once(Down::Welcome(welcome)).chain(content).collect();
        let (session, open) = (opening.session, true);
        let (renewals, next_renewal, up) = (Vec::new(), 0, VecDeque::new());
        validator.links[n].stream = Some(Stream { id, session, open, joined: !late, renewals, next_renewal, up, down });
        Some(())
    }

    /// A mutant: the admin counts the session only now.
    pub(crate) fn join(&self, state: &mut State, v: usize, n: usize) -> Option<()> {
        let stream = state.validators[v].links[n].stream.as_mut()?;
        stream.joined = true;
        let id = stream.id;
        state.admins[n].node.join(id, None).ok().map(|_| ())
    }

    /// A validator asks for a lease.
    pub(crate) fn renew(&self, state: &mut State, v: usize, n: usize) -> Option<()> {
        let validator = &mut state.validators[v];
        // The clock may be exact now and lag later: that makes leases longest.
        let sent = state.validator_now.plus(ticks(LAG));
        let stream = validator.links[n].stream.as_mut()?;
        let (session, seq) = (stream.session, stream.next_renewal);
        if !self.late_up {
            // A renewal that arrives at once and is not granted has no effect.
            let renewal = Event::Renew { session: stream.id, seq, applied: Revision(0) };
            (!state.admins[n].node.clone().handle(renewal, state.now).is_empty()).then_some(())?;
        }
        stream.next_renewal += 1;
        if self.is(Mutant::LeaseFromNewestRenewal) {
            stream.renewals.iter().for_each(|older| validator.follower.renewing(session, *older, sent));
        }
        stream.renewals.push(seq);
        validator.follower.renewing(session, seq, sent);
        let applied = validator.follower.revision_of(session);
        validator.send(n, Up::Renew { seq, applied });
        Some(())
    }

    /// A validator takes the next message of a stream.
    pub(crate) fn validator_receives(&self, state: &mut State, v: usize, n: usize) -> Option<()> {
        let now = state.validator_now;
        let accepted_once = state.database.accepted_once;
        let validator = &mut state.validators[v];
        let stream = validator.links[n].stream.as_mut()?;
        let (session, message) = (stream.session, stream.down.pop_front()?);
        if let Down::Grant { seq, .. } = message
            && self.is(Mutant::LeaseFromReceipt)
        {
            validator.follower.renewing(session, seq, now.plus(ticks(LAG)));
        }
        let before = validator.follower.position();
        let result = validator.follower.receive(session, message.decode(), now);
        let after = validator.follower.position();
        let went_back = before.zip(after).is_some_and(|(before, after)| {
            before.position.epoch == after.position.epoch && after.position.revision < before.position.revision
        });
        let table = validator.follower.table();
        let mixed = after.is_some_and(|after| table.history_refuses() != Some(after.position.refuses()));
        validator.refused = table.refuses() || validator.refused && !accepted_once;
        let mut violation = None;
        match result {
            Ok(effects) => {
                if let Down::Grant { seq, .. } = message
                    && !effects.is_empty()
                    && let Some(stream) = &mut validator.links[n].stream
                {
                    stream.renewals.retain(|renewal| *renewal > seq);
                }
                validator.carry_out(n, effects);
            }
            Err(error) => {
                // A first snapshot ends the other sessions, and a snapshot may be older than what the validator knows.
                let gap = matches!(error, FollowerError::Gap | FollowerError::Forked);
                violation = (gap && self.restores == 0).then_some(Violation::Gap);
                self.end_stream(state, v, n, None);
            }
        }
        let found = [went_back.then_some(Violation::WentBack), mixed.then_some(Violation::Mixed), violation];
        state.violation = found.into_iter().flatten().next().or(state.violation);
        Some(())
    }

    /// Ends a stream at the validator's side. What it has sent, and `last`, is still on its way to the admin. Of streams that
    /// ended before, the admin notices the end at once.
    pub(crate) fn end_stream(&self, state: &mut State, v: usize, n: usize, last: Option<Up>) {
        let validator = &mut state.validators[v];
        let Some(stream) = validator.links[n].stream.take() else { return };
        validator.follower.break_stream(stream.session);
        if !stream.open || !stream.joined {
            return;
        }
        // No grant that answers these renewals arrives.
        let sent = stream.up.into_iter().map(|up| match up {
            Up::Renew { applied, .. } => Up::Renew { seq: 0, applied },
            other => other,
        });
        let former = FormerStream { id: stream.id, up: sent.chain(last).collect() };
        if let Some(before) = validator.links[n].former.replace(former) {
            self.stream_broke(state, n, before.id);
        }
    }

    /// The admin takes a message of a stream that the validator has ended.
    pub(crate) fn admin_receives_former(&self, state: &mut State, v: usize, n: usize) {
        let Some(former) = &mut state.validators[v].links[n].former else { return };
        let (id, up) = (former.id, former.up.pop_front());
        match up {
            Some(Up::Goodbye) => state.validators[v].links[n].former = None,
            Some(_) => {}
            None => return,
        }
        up.into_iter().for_each(|up| self.take_up(state, n, id, up));
    }

    /// The admin notices that a stream is over: the current one, or the one before.
    pub(crate) fn admin_notices(&self, state: &mut State, v: usize, n: usize, former: bool) -> Option<()> {
        let link = &mut state.validators[v].links[n];
        let id = if former {
            link.former.take()?.id
        } else {
            let stream = link.stream.as_mut()?;
            stream.open = false;
            stream.up.clear();
            stream.id
        };
        self.stream_broke(state, n, id);
        Some(())
    }

    pub(crate) fn goodbye(&self, state: &mut State, v: usize, n: usize) -> Option<()> {
        let validator = &mut state.validators[v];
        let session = validator.links[n].stream.as_ref()?.session;
        let effect = validator.follower.leave(session);
        if !self.is(Mutant::GoodbyeKeepsLease) && !self.is(Mutant::GoodbyeBeforeLeaseDropped) {
            validator.carry_out(n, vec![effect]);
        }
        self.end_stream(state, v, n, Some(Up::Goodbye));
        Some(())
    }

    /// A validator crashes and starts again.
    pub(crate) fn crash(&self, state: &mut State, v: usize) {
        for n in 0..self.admins {
            self.end_stream(state, v, n, None);
        }
        let fresh = Validator::new(self.admins);
        let before = std::mem::replace(&mut state.validators[v], fresh);
        for (link, before) in state.validators[v].links.iter_mut().zip(before.links) {
            link.former = before.former;
        }
    }

    /// A validation starts: it reads the lease.
    pub(crate) fn validate(&self, validator: &mut Validator) {
        let first =
            if self.is(Mutant::TableBeforeLease) { Validation::Table } else { Validation::Lease(validator.lease) };
        validator.validation = Some(first);
    }

    pub(crate) fn read_clock(&self, state: &mut State, v: usize) {
        let now = state.validator_now;
        let validator = &mut state.validators[v];
        match validator.validation.take() {
            Some(Validation::Lease(lease)) if lease.is_valid_at(now) => {
                validator.validation = Some(Validation::Clock);
            }
            Some(Validation::Table) if validator.is_leased(now) => state.violation = Some(Violation::StaleAnswer),
            _ => {}
        }
    }

    pub(crate) fn read_table(&self, state: &mut State, v: usize) {
        let promised = state.is_promised(self);
        let validator = &mut state.validators[v];
        validator.validation = None;
        if validator.follower.table().accepts() && promised {
            state.violation = Some(Violation::StaleAnswer);
        }
    }

    /// Carries every message that this world does not delay.
    pub(crate) fn deliver_at_once(&self, state: &mut State) {
        let pairs = |state: &State| {
            let validators = state.validators.len();
            (0..validators).flat_map(|v| (0..self.admins).map(move |n| (v, n)))
        };
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for (v, n) in pairs(state) {
                let link = &state.validators[v].links[n];
                let next = link.stream.as_ref().and_then(|stream| stream.down.front());
                if !self.late_down && next.is_some_and(|down| !matches!(down, Down::Delta(_))) {
                    moved = self.validator_receives(state, v, n).is_some();
                } else if self.late_up {
                } else if link.former.is_some() {
                    while state.validators[v].links[n].former.as_ref().is_some_and(|f| !f.up.is_empty()) {
                        self.admin_receives_former(state, v, n);
                    }
                    self.admin_notices(state, v, n, true);
                    moved = true;
                } else if link.stream.as_ref().is_some_and(|stream| !stream.up.is_empty()) {
                    self.admin_receives(state, v, n);
                    moved = true;
                } else if link.stream.as_ref().is_some_and(|stream| !stream.open) {
                    self.end_stream(state, v, n, None);
                    moved = true;
                }
            }
        }
    }

    /// Looks for an answer that must not be given.
    pub(crate) fn check_answers(&self, state: &mut State) {
        let now = state.validator_now;
        let stale = state.is_promised(self);
        let accepting = || state.validators.iter().filter(|validator| validator.accepts(now));
        if stale && accepting().next().is_some() {
            state.violation = state.violation.or(Some(Violation::StaleAnswer));
        } else if accepting().any(|validator| validator.refused) {
            state.violation = state.violation.or(Some(Violation::ValidatorForgot));
        }
    }
}
