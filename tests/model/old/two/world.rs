//! What may happen between two admins, and what must be true throughout.

use keyward_replica::{Policy, Standing};
use stateright::{Model, Property};

use crate::mutants::Mutant;
use crate::state::{BEFORE, DEACTIVATION, at, ticks};
use crate::two::state::{Call, State};
use crate::two::step::Action;
use crate::world::LAG;

/// How large a world is searched. That an admin is cut off from the database, or from the other admin, for as long as
/// one likes, is always possible: it need not ask, and need not hear an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// The longest lease that a grant gives; D is that and the margin.
    pub(crate) lease: u64,
    /// Streams break.
    pub(crate) cuts: bool,
    /// Validators say goodbye, to whichever admin they like.
    pub(crate) goodbyes: bool,
    /// The validator is killed and started again.
    pub(crate) crashes: bool,
    /// Admins are killed and started again.
    pub(crate) kills: bool,
    /// How many lives may begin: when an admin is started again, and when it finds itself struck off.
    pub(crate) lives: u8,
    /// The client may ask the other admin again, any number of times.
    pub(crate) retries: bool,
    /// Which of the admins strikes off lives that have fallen silent.
    pub(crate) strikes: [bool; 2],
    /// Heartbeats take time: each is sent, commits and is answered, or is lost.
    pub(crate) split: [bool; 2],
    /// Validators hear everything late, not deltas alone.
    pub(crate) late: bool,
    /// Look for a validator that answers anew and then, after a restart, from before.
    pub(crate) inversion: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl World {
    pub(crate) fn policy(&self) -> Policy {
        Policy { lease: ticks(self.lease + LAG), clock_rate_error_ppm: 0, clock_margin: ticks(LAG) }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let both = State::first(self, false);
        // It is an admin like any other that has been struck off.
        let late = (self.lives > 0).then(|| State::first(self, true));
        late.into_iter().chain([both]).map(|state| state.canonical(0, self)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // What is wrong stays wrong: there is nothing to be found behind it.
        if !state.is_wrong() {
            self.possible(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, action)?;
        let state = state.canonical(action.time(), self);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no call that starts after Deactivate has returned is answered VALID", |_, s: &State| {
                !s.is_wrong()
            }),
            Property::sometimes("enforced by the other admin's answer while its validator answers", |_, s: &State| {
                s.waiting().is_some_and(|n| {
                    let barrier = s.admins[n].barrier.as_ref();
                    let clear = barrier.is_some_and(|b| b.standing(at(0)) == Standing::Clear && b.sum().acked > 0);
                    clear && s.admins[n].enforced() == Some(true) && s.validator.is_leased_by(1 - n)
                })
            }),
            Property::sometimes("enforced by waiting while a stale validator runs", |_, s: &State| {
                let waited = s.waiting().is_some_and(|n| s.admins[n].enforced() == Some(false));
                waited && s.validator.table == Some(BEFORE) && s.validator.streams.iter().any(Option::is_some)
            }),
            Property::sometimes("leases of both admins, before a move and behind it", |_, s: &State| {
                s.validator.is_leased_by(0) && s.validator.is_leased_by(1)
            }),
            Property::sometimes("a live lease answers DEACTIVATED after the return", |_, s: &State| {
                s.call == Call::Returned && s.validator.is_leased() && s.validator.table == Some(DEACTIVATION)
            }),
        ];
        if self.inversion {
            properties
                .push(Property::sometimes("a reject and then an accept while Deactivate runs", |_, s: &State| {
                    s.rejected && s.waiting().is_some() && s.validator.is_stale()
                }));
        }
        properties
    }
}

impl State {
    /// Whether a call that starts now, after the return, is answered VALID.
    pub(crate) fn is_wrong(&self) -> bool {
        self.call == Call::Returned && self.validator.is_stale()
    }
}
