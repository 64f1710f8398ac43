//! Heartbeats of two admins over one database.

use std::collections::BTreeSet;

use keyward_domain::{AdminLife, AdminNode};
use keyward_replica::{Listing, Policy};

use crate::mutants::Mutant;
use crate::state::{BEFORE, DEACTIVATION, at};
use crate::two::state::{Admin, Beat, Call, Row, Sent, State, life};
use crate::two::world::World;

/// What happens between an admin and the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A heartbeat, from the sending to the answer.
    Beat,
    /// It is sent.
    Send,
    /// It commits, and reads.
    Commit,
    /// It is answered.
    Answer,
    /// It is lost, or its answer is.
    Lose,
}

impl Admin {
    /// Steps that are possible.
    pub(crate) fn steps(&self, split: bool) -> impl Iterator<Item = Step> {
        let sent = matches!(self.beat, Some(Beat::Sent(_)));
        let steps = [
            (Step::Beat, !split),
            (Step::Send, split && self.beat.is_none()),
            (Step::Commit, sent),
            (Step::Answer, self.beat.is_some() && !sent),
            (Step::Lose, self.beat.is_some()),
        ];
        steps.into_iter().filter_map(|(step, possible)| possible.then_some(step))
    }
}

fn listing(asked: keyward_replica::Instant, nodes: &[(AdminLife, i64)], policy: &Policy) -> Listing {
    let node = |(life, heartbeat): &(AdminLife, i64)| AdminNode {
        life: *life,
        lease: policy.lease,
        heartbeat: *heartbeat,
        address: None,
    };
    Listing { asked, nodes: nodes.iter().map(node).collect() }
}

impl World {
    pub(crate) fn at_the_database(&self, state: &mut State, n: usize, step: Step) {
        match step {
            Step::Beat => {
                send(state, n);
                self.commit(state, n);
                self.answer(state, n);
            }
            Step::Send => send(state, n),
            Step::Commit => self.commit(state, n),
            Step::Answer => self.answer(state, n),
            Step::Lose => state.admins[n].beat = None,
        }
    }

    fn commit(&self, state: &mut State, n: usize) {
        let admin = &state.admins[n];
        let life = admin.life;
        let Some(Beat::Sent(sent)) = admin.beat else { return };
        let returned = state.call == Call::Returned;
        let committed =
            if self.is(Mutant::HeartbeatWithoutRevision) { admin.applied } else { state.call != Call::Ahead };
        let newest = if committed { DEACTIVATION } else { BEFORE };
        let beat = match state.rows.iter_mut().find(|row| row.life == life) {
            Some(row) => {
                row.beats = row.beats.map(|beat| beat + 1);
                let others = state.rows.iter().filter(|row| row.life != life);
                Beat::Committed { sent, newest, others: others.map(|row| (row.life, row.beats[n])).collect() }
            }
            None if returned => Beat::Committed { sent, newest, others: Vec::new() },
            None => Beat::Refused,
        };
        state.admins[n].beat = Some(beat);
    }

    fn answer(&self, state: &mut State, n: usize) {
        match state.admins[n].beat.take() {
            Some(Beat::Committed { sent, newest, others }) => {
                state.admins[n].basis.beat(sent.at, newest);
                if state.call != Call::Returned {
                    self.listed(state, n, sent, &others);
                }
            }
            Some(Beat::Refused) => self.live_again(state, n),
            Some(Beat::Sent(_)) | None => {}
        }
    }

    /// Takes what a heartbeat has found of others, and strikes off those that have fallen silent.
    fn listed(&self, state: &mut State, n: usize, sent: Sent, others: &[(AdminLife, i64)]) {
        let policy = self.policy();
        let admin = &mut state.admins[n];
        let asked = if self.is(Mutant::ListedBeforeCommit) { at(0) } else { sent.asked() };
        let listing = listing(asked, others, &policy);
        if let Some(barrier) = &mut admin.barrier {
            let alone = Listing { asked, nodes: Vec::new() };
            barrier.listed(admin.life, if self.is(Mutant::OwnOnly) { &alone } else { &listing }, &policy);
        }
        admin.settled.listed(&listing, &policy, at(0));
        if !self.strikes[n] {
            return;
        }
        admin.seen = others.to_vec();
        let silent = admin.watch.silent(&listing, &policy, at(0));
        let silent = if self.is(Mutant::StruckOffEarly) { listing.nodes } else { silent };
        let is_silent = |row: &Row| silent.iter().any(|s| s.life == row.life && s.heartbeat == row.beats[n]);
        state.rows.retain(|row| !is_silent(row));
    }

    /// An admin that was struck off has no leases in use, and begins another life if it can.
    fn live_again(&self, state: &mut State, n: usize) {
        state.admins[n].basis.lose();
        if state.lives < 2 + self.lives {
            state.lives += 1;
            let life = life(state.lives);
            state.rows.push(Row { life, admin: n, beats: [0; 2] });
            state.admins[n].life = life;
        }
    }
}

fn send(state: &mut State, n: usize) {
    let before = state.call == Call::Ahead;
    state.admins[n].beat = Some(Beat::Sent(Sent { at: at(0), before }));
}

impl State {
    /// Counts heartbeats, as each admin sees them, from the newest that it has taken, and no further than it takes to
    /// tell apart what it has taken, what is on its way to it and what the database has.
    pub(crate) fn count_beats_anew(&mut self) {
        for (n, admin) in self.admins.iter_mut().enumerate() {
            for row in &mut self.rows {
                let taken =
                    admin.seen.iter_mut().find(|(life, _)| *life == row.life).map(|(_, beat)| std::mem::take(beat));
                let on_its_way = match &mut admin.beat {
                    Some(Beat::Committed { others, .. }) => others.iter_mut().find(|(life, _)| *life == row.life),
                    _ => None,
                };
                let sent = on_its_way.as_ref().map(|(_, beat)| *beat);
                let known: BTreeSet<_> = taken.into_iter().chain(sent).chain([row.beats[n]]).collect();
                let place = |beat: i64| known.range(..beat).count() as i64;
                if let Some((_, beat)) = on_its_way {
                    *beat = place(*beat);
                }
                row.beats[n] = place(row.beats[n]);
            }
        }
    }
}
