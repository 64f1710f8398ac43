//! Steps of the admins, of their database, and of the client of Deactivate.

use std::time::Duration;

use keyward_domain::{AdminLife, Position};
use keyward_protocol::admin::{Cleared, Effect, Event, FenceStatus, Node, PeerBarrier, PeerMode, SessionId, Start};
use keyward_protocol::log::{continues, withholds_reported};
use keyward_protocol::{Instant, Policy};

use crate::database::{Kind, Log, entry};
use crate::mutants::Mutant;
use crate::state::{Admin, Call, Down, FENCE, Heartbeat, State, Task, Up, Violation};
use crate::world::{HeartbeatStep, World};

impl Admin {
    /// Returns `true` if this process commits to a log that ends at `log`.
    pub(crate) fn may_commit(&self, log: &Position) -> bool {
        self.seen.required().all(|required| continues(log, &required, log.contains(&required)))
    }

    /// Notes that this process sends the token as `log` has it from now on.
    fn publishes(&mut self, log: &Position, accepted_once: bool) -> Option<Violation> {
        let forgot = self.refused && !log.refuses() && !accepted_once;
        self.refused = log.refuses();
        forgot.then_some(Violation::AdminForgot)
    }
}

impl World {
    /// The node of a process that starts.
    fn start(&self, state: &mut State, n: usize, restarts: bool, policy: Policy) -> Node {
        let peers = if self.shared {
            PeerMode::Shared { life: state.database.register(n) }
        } else {
            let longest = if self.is(Mutant::OnlyLastLife) { policy } else { self.policy() };
            let former_lives = (restarts && !self.is(Mutant::RestartForgets)).then_some(longest);
            PeerMode::Alone { former_lives }
        };
        let log = state.database.log;
        let forgets = self.is(Mutant::StartAfterForkForgets) || self.is(Mutant::LeaseSurvivesFork);
        let forked = log.kinds().any(|kind| kind == Kind::EpochBegan) && !forgets;
        let (accepted, forked_ago) = (log.is_accepted(), forked.then_some(Duration::ZERO));
        Node::new(Start { policy, head: log, accepted, forked_ago, peers }, state.now)
    }

    /// An admin that starts, with nothing under way.
    pub(crate) fn admin(&self, state: &mut State, n: usize) -> Admin {
        let node = self.start(state, n, false, self.policy());
        let refused = node.history().head().refuses();
        Admin { refused, ..Admin::new(node) }
    }

    /// Passes an event to a node, and carries its effects out.
    pub(crate) fn handle(&self, state: &mut State, n: usize, event: Event) {
        let effects = state.admins[n].node.handle(event, state.now);
        for effect in effects {
            self.carry_out(state, n, effect);
        }
        let admin = &mut state.admins[n];
        admin.seen.publish(admin.node.history().head());
    }

    fn carry_out(&self, state: &mut State, n: usize, effect: Effect) {
        match effect {
            Effect::Deliver(position) => self.deliver(state, n, position),
            Effect::Grant { session, seq, duration } => {
                let streams = state.validators.iter_mut().filter_map(|v| v.links[n].stream.as_mut());
                if let Some(stream) = streams.into_iter().find(|stream| stream.open && stream.id == session) {
                    let grant = Down::Grant { seq, duration };
                    if self.is(Mutant::GrantOvertakes) {
                        stream.down.push_front(grant);
                    } else {
                        stream.down.push_back(grant);
                    }
                }
            }
            Effect::End(session) => end_streams(state, n, |id| id == session),
            Effect::EndAll => end_streams(state, n, |_| true),
            Effect::PositionSeen(position) => state.admins[n].seen.record(position),
            Effect::Evict(node) if self.evicts[n] => {
                let rows = &mut state.database_of_mut(n).rows;
                rows.retain(|row| (row.life, row.heartbeats[n]) != (node.life, node.heartbeat));
            }
            Effect::AskHeartbeat(node) => {
                let (life, asked) = (node.life, state.now);
                // With one database the answer is of no consequence: the connection breaks.
                let answers = self.splits && !self.is(Mutant::PeersUnasked);
                let peer = &state.admins[1 - n].node;
                let age = if answers { peer.answered_heartbeat(life, asked) } else { None };
                self.handle(state, n, Event::PeerHeartbeat { life, asked, age });
            }
            Effect::Register if self.may_begin_life(state) => {
                let life = state.database.register(n);
                self.handle(state, n, Event::Registered(life));
            }
            Effect::Reconnect => state.admins[n].task = Task::Reconnect,
            Effect::Reload => state.admins[n].task = Task::Reload { mended: state.database.log },
            // The model does these at any time, or has no need of them.
            Effect::ReadLog
            | Effect::SendHeartbeat
            | Effect::CheckHistory
            | Effect::Moved
            | Effect::Evict(_)
            | Effect::Register
            | Effect::Deregister(_) => {}
        }
    }

    /// Returns `true` if another life may begin in this world.
    pub(crate) fn may_begin_life(&self, state: &State) -> bool {
        !self.shared || usize::from(state.database.lives) < self.admins + self.lives
    }

    fn deliver(&self, state: &mut State, n: usize, position: Position) {
        let forgot = state.admins[n].publishes(&position, state.database.accepted_once);
        state.violation = state.violation.or(forgot);
        let streams = state.validators.iter_mut().filter_map(|v| v.links[n].stream.as_mut());
        for stream in streams.filter(|stream| stream.open && stream.joined) {
            stream.down.push_back(Down::Delta(position));
            if self.is(Mutant::AckBeforeApply) {
                stream.up.push_back(Up::Ack(position.revision));
            }
        }
    }

    /// Loses the last entry of the log.
    pub(crate) fn restore(&self, state: &mut State) {
        state.database.restore();
        if self.restores_lose_rows {
            state.database.rows.clear();
        }
    }

    pub(crate) fn accept_epoch(&self, state: &mut State, n: usize) {
        state.database.append(Kind::EpochAccepted);
        state.database.accepted_once = true;
        let log = state.database.log;
        state.admins[n].seen.record(log);
    }

    pub(crate) fn deactivate(&self, state: &mut State, n: usize) {
        let had_begun = state.call == Call::Arrived;
        state.database.append(Kind::Deactivated);
        let log = state.database.log;
        (state.deactivation, state.call) = (Some(log), Call::Waiting(n));
        state.admins[n].seen.record(log);
        if !had_begun {
            self.begin_fence(state, n);
        }
    }

    /// A mutant: the fence begins before the commit.
    pub(crate) fn arrive(&self, state: &mut State) {
        state.call = Call::Arrived;
        let revision = state.database.log.revision.next();
        self.handle(state, 0, Event::FenceBegan { fence: FENCE, revision });
    }

    fn begin_fence(&self, state: &mut State, n: usize) {
        let Some(deactivation) = state.deactivation else { return };
        let applied = state.admins[n].node.history().head().revision;
        let revision = if self.is(Mutant::FenceOfAppliedRevision) { applied } else { deactivation.revision };
        self.handle(state, n, Event::FenceBegan { fence: FENCE, revision });
    }

    /// The client asks the other admin.
    pub(crate) fn retry(&self, state: &mut State, n: usize) {
        self.handle(state, n, Event::FenceEnded(FENCE));
        state.answer = None;
        state.call = Call::Waiting(1 - n);
        self.begin_fence(state, 1 - n);
    }

    pub(crate) fn return_enforced(&self, state: &mut State, n: usize) {
        state.call = Call::Returned;
        let checked = self.is(Mutant::RetryReturnsAtOnce) || self.is(Mutant::FenceOfAppliedRevision);
        if !checked && !state.has_applied(n) {
            state.violation = Some(Violation::LostButEnforced);
        }
    }

    /// The fence has found that the history changed.
    pub(crate) fn fail(&self, state: &mut State, n: usize) {
        self.handle(state, n, Event::FenceEnded(FENCE));
        if self.is(Mutant::FenceSurvivesFork) {
            self.begin_fence(state, n);
        } else {
            state.call = Call::Failed;
        }
    }

    /// The admin reads the next entry of the log.
    pub(crate) fn read_log(&self, state: &mut State, n: usize) -> Option<()> {
        let (log, admin) = (state.database_of(n).log, &state.admins[n]);
        let head = admin.node.history().head();
        if !log.contains(&head) {
            (!self.is(Mutant::DoubtIgnored)).then(|| self.handle(state, n, Event::HeadMissing))
        } else if head.revision < log.revision {
            let next = log.up_to(head.revision.next());
            let conflict = admin.seen.conflict(&next);
            self.handle(state, n, Event::Change(entry(&next, conflict)));
            Some(())
        } else {
            None
        }
    }

    pub(crate) fn heartbeat(&self, state: &mut State, n: usize, step: HeartbeatStep) {
        match step {
            HeartbeatStep::Whole => {
                self.send_heartbeat(state, n);
                self.commit_heartbeat(state, n);
                self.answer_heartbeat(state, n);
            }
            HeartbeatStep::Send => self.send_heartbeat(state, n),
            HeartbeatStep::Commit => self.commit_heartbeat(state, n),
            HeartbeatStep::Answer => self.answer_heartbeat(state, n),
            HeartbeatStep::Lose => state.admins[n].heartbeat = None,
        }
    }

    fn send_heartbeat(&self, state: &mut State, n: usize) {
        let admin = &mut state.admins[n];
        // Before the commit of a deactivation in the same tick. Whole ticks do not notice the difference.
        let before = Duration::from_nanos(u64::from(matches!(state.call, Call::Ahead | Call::Arrived)));
        admin.node.handle(Event::HeartbeatSent { seen: admin.seen.newest() }, state.now.minus(before));
        admin.heartbeat = Some(Heartbeat::Sent);
    }

    fn commit_heartbeat(&self, state: &mut State, n: usize) {
        let node = &state.admins[n].node;
        let Some(life) = node.life() else { return };
        // The model drops the rows once no fence waits.
        let (head, lease) = (node.history().head(), node.policy().lease);
        let returned = state.call == Call::Returned;
        let database = state.database_of_mut(n);
        let is_listed = database.heartbeat(life) || database.rows.is_empty() && returned;
        let log = if self.is(Mutant::HeartbeatWithoutRevision) { head } else { database.log };
        let heartbeat = if is_listed {
            let mut nodes = database.nodes(n, lease);
            nodes.retain(|node| !self.is(Mutant::OwnLifeOnly) || node.life == life);
            Heartbeat::Committed { log, nodes }
        } else {
            Heartbeat::Refused
        };
        state.admins[n].heartbeat = Some(heartbeat);
    }

    fn answer_heartbeat(&self, state: &mut State, n: usize) {
        match state.admins[n].heartbeat.take() {
            Some(Heartbeat::Committed { mut log, nodes }) => {
                let head = state.admins[n].node.history().head();
                if self.is(Mutant::DoubtIgnored) && !log.contains(&head) {
                    log = head;
                }
                if self.is(Mutant::BasisAtReply) {
                    self.handle(state, n, Event::HeartbeatSent { seen: None });
                }
                self.handle(state, n, Event::HeartbeatAnswered { log, nodes });
                if self.is(Mutant::EvictedTooEarly) && self.evicts[n] {
                    let life = state.admins[n].node.life();
                    state.database.rows.retain(|row| Some(row.life) == life);
                }
            }
            Some(Heartbeat::Refused) => self.handle(state, n, Event::Evicted),
            Some(Heartbeat::Sent) | None => {}
        }
    }

    /// The first of two questions about the history.
    pub(crate) fn check_history(&self, state: &mut State, n: usize) {
        let history = state.admins[n].node.history();
        let (head, suspect) = (history.head(), history.suspect());
        let was_lost = state.database.relation(&head).is_lost();
        state.admins[n].task = Task::Mend { was_lost, suspect };
    }

    /// The second question, which mends the history.
    pub(crate) fn mend_history(&self, state: &mut State, n: usize, was_lost: bool, suspect: Option<Position>) {
        let admin = &mut state.admins[n];
        admin.task = Task::None;
        let head = admin.node.history().head();
        let mut seen: Vec<_> = suspect.into_iter().chain(admin.seen.newest()).collect();
        if self.is(Mutant::SuspectIgnored) {
            seen.clear();
        }
        let deactivated = head.kinds().any(|kind| kind == Kind::Deactivated);
        let refused = if self.is(Mutant::WithheldDroppedOnSecondFork) { deactivated } else { head.refuses() };
        let before = state.database.log;
        let is_lost = state.database.mend_history(&seen, &head, refused && was_lost);
        let end = state.database.log;
        let unpublished = admin.seen.unpublished();
        let is_kept = |seen: &Position| before.contains(seen) && !self.is(Mutant::SeenForgotten);
        let contained: Vec<_> = unpublished.iter().copied().filter(is_kept).collect();
        admin.seen.discard_lost(&unpublished, &contained, end.epoch);
        self.handle(state, n, Event::HistoryChecked { was_lost, is_lost });
    }

    pub(crate) fn reconnect(&self, state: &mut State, n: usize) {
        state.admins[n].task = Task::None;
        self.handle(state, n, Event::Reconnected);
    }

    /// The admin loads what the database has now, unless that has lost what mended the history: it is mended again then,
    /// because the admin alone may know what the lost history refused.
    pub(crate) fn reload(&self, state: &mut State, n: usize, mended: &Position) {
        let head = state.database.log;
        state.admins[n].task = Task::None;
        let lacks_mended = head.epoch != mended.epoch || !head.contains(mended);
        if lacks_mended && !self.is(Mutant::ReloadUnchecked) {
            return;
        }
        let forgot = state.admins[n].publishes(&head, state.database.accepted_once);
        state.violation = state.violation.or(forgot);
        if self.is(Mutant::LeaseSurvivesFork) {
            let node = self.start(state, n, false, self.policy());
            state.admins[n] = Admin { refused: state.admins[n].refused, ..Admin::new(node) };
            return;
        }
        self.handle(state, n, Event::Reloaded { head, accepted: head.is_accepted() });
    }

    /// The admin that waits has asked for that life, and the other process answers if it is clear.
    pub(crate) fn ask_peer(&self, state: &mut State, n: usize, life: AdminLife) -> Option<()> {
        let mut position = state.admins[n].node.history().position_at(state.deactivation?.revision)?;
        let peer = &state.admins[1 - n].node;
        let asked = if self.is(Mutant::AnswersForAnotherLife) { peer.life()? } else { life };
        if self.is(Mutant::AnswersBeforeApplied) && peer.history().head().revision < position.revision {
            position = peer.history().head();
        }
        let PeerBarrier::Cleared(cleared) = peer.peer_barrier(asked, &position, state.now) else { return None };
        state.answer = Some((life, cleared));
        Some(())
    }

    pub(crate) fn peer_answers(&self, state: &mut State, n: usize, life: AdminLife, cleared: Cleared) {
        state.answer = None;
        self.handle(state, n, Event::PeerCleared { fence: FENCE, life, cleared });
    }

    /// An admin crashes, and its next process reads the database.
    pub(crate) fn kill(&self, state: &mut State, n: usize, policy: Policy) {
        end_streams(state, n, |_| true);
        state.validators.iter_mut().for_each(|validator| validator.links[n].former = None);
        let node = self.start(state, n, true, policy);
        let refused = node.history().head().refuses();
        state.admins[n] = Admin { refused, ..Admin::new(node) };
        if state.call == Call::Waiting(n) {
            state.answer = None;
            // The client asks again.
            if state.is_deactivated() {
                self.begin_fence(state, n);
            } else {
                (state.call, state.deactivation) = (Call::Ahead, None);
            }
        }
    }

    /// The admin takes a message of a validator.
    pub(crate) fn admin_receives(&self, state: &mut State, v: usize, n: usize) {
        let Some(stream) = &mut state.validators[v].links[n].stream else { return };
        let (id, up) = (stream.id, stream.up.pop_front());
        if let Some(up) = up {
            self.take_up(state, n, id, up);
        }
    }

    pub(crate) fn take_up(&self, state: &mut State, n: usize, session: SessionId, up: Up) {
        let event = match up {
            Up::Renew { seq, applied } => Event::Renew { session, seq, applied },
            Up::Ack(revision) => Event::Ack { session, revision },
            Up::ReportWithheld => return self.withhold_reported(state, n),
            Up::Goodbye => Event::Goodbye(session),
        };
        if matches!(up, Up::Renew { .. }) {
            self.mutate_before_renewal(state, n);
        }
        self.handle(state, n, event);
    }

    /// A validator denies the token in the epoch of the admin, whose history accepts it.
    fn withhold_reported(&self, state: &mut State, n: usize) {
        let (admin, log) = (&state.admins[n], &state.database.log);
        let history = admin.node.history();
        let withholds = withholds_reported(log.epoch, history.head().epoch, log.is_accepted());
        let checked = admin.may_commit(log) || self.is(Mutant::ReportUnchecked);
        if history.takes_reports() && checked && withholds && !log.refuses() {
            state.database.append(Kind::Reported);
        }
    }

    fn mutate_before_renewal(&self, state: &mut State, n: usize) {
        let node = &mut state.admins[n].node;
        if self.is(Mutant::BasisWithoutHeartbeat) && node.basis(state.now).is_ok() {
            let log = node.history().head();
            node.handle(Event::HeartbeatSent { seen: None }, state.now);
            node.handle(Event::HeartbeatAnswered { log, nodes: Vec::new() }, state.now);
        }
        let waits = state.call == Call::Waiting(n) && state.has_applied(n) && state.database.log.revision.0 < 4;
        if self.is(Mutant::FenceOfNewestRevision) && waits {
            state.database.append(Kind::Unrelated);
            let next = state.database.log;
            self.handle(state, n, Event::Change(entry(&next, None)));
            self.handle(state, n, Event::FenceEnded(FENCE));
            self.handle(state, n, Event::FenceBegan { fence: FENCE, revision: next.revision });
        }
    }

    /// The admin notices that a stream is over.
    pub(crate) fn stream_broke(&self, state: &mut State, n: usize, id: SessionId) {
        let release = self.is(Mutant::ReleaseOnDisconnect);
        self.handle(state, n, if release { Event::Goodbye(id) } else { Event::StreamBroke(id) });
    }

    /// Has the fence of Deactivate take what happened, as servers do after each event.
    pub(crate) fn poll_fence(&self, state: &mut State) -> Option<FenceStatus> {
        let Call::Waiting(n) = state.call else { return None };
        Some(state.admins[n].node.fence(FENCE, state.now))
    }
}

/// Ends streams at the admin's side.
fn end_streams(state: &mut State, n: usize, which: impl Fn(SessionId) -> bool) {
    let streams = state.validators.iter_mut().filter_map(|validator| validator.links[n].stream.as_mut());
    for stream in streams.filter(|stream| which(stream.id)) {
        stream.open = false;
        stream.up.clear();
    }
}

/// Ticks until the fence is enforced if nothing happens; `None` if time alone does not enforce it.
pub(crate) fn enforced_in(node: &Node, now: Instant, longest: u64) -> Option<u64> {
    let enforced = |tick: &u64| {
        let status = node.clone().fence(FENCE, now.plus(crate::state::ticks(*tick)));
        matches!(status, FenceStatus::Enforced { .. })
    };
    (0..=longest).find(enforced)
}
