//! What may happen, and what must be true throughout.

use keyward_replica::Policy;
use stateright::{Model, Property};

use crate::mutants::Mutant;
use crate::state::{BEFORE, Call, DEACTIVATION, State, Wrong, ticks};
use crate::step::Action;

/// How large a world is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// The longest lease that a grant gives; D is that and the margin.
    pub(crate) lease: u64,
    pub(crate) validators: usize,
    /// Renewals that a validator has under way at once.
    pub(crate) renewals: u64,
    pub(crate) faults: Faults,
    /// How many of the validators these happen to.
    pub(crate) disturbed: usize,
    /// Other admins may use the same database.
    pub(crate) shared: bool,
    /// An admin may be started again with leases of one tick.
    pub(crate) shortens: bool,
    pub(crate) mutant: Option<Mutant>,
}

/// What goes wrong, any number of times. That a validator's clock lags is always possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Processes are killed and started again.
    pub(crate) crashes: bool,
    /// Streams break, and either end notices as late as it likes.
    pub(crate) cuts: bool,
    /// Validators say goodbye and come again: no fault, but a disturbance.
    pub(crate) goodbyes: bool,
}

impl Faults {
    pub(crate) const NONE: Self = Self { crashes: false, cuts: false, goodbyes: false };
    pub(crate) const ALL: Self = Self { crashes: true, cuts: true, goodbyes: true };
}

/// By how many ticks a validator's clock may lag when it judges its lease, compared to when it asked for it.
pub(crate) const LAG: u64 = 1;

impl World {
    /// What leases are counted by at first.
    pub(crate) fn policy(&self) -> Policy {
        let margin = if self.is(Mutant::NoMargin) { 0 } else { LAG };
        Policy { lease: ticks(self.lease + margin), clock_rate_error_ppm: 0, clock_margin: ticks(margin) }
    }

    /// What leases are counted by later.
    pub(crate) fn shorter_policy(&self) -> Policy {
        Self { lease: 1, ..*self }.policy()
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self.policy(), self.validators, self.shared).canonical(0, 0, self.policy().lease)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // What is wrong stays wrong: there is nothing to be found behind it.
        if state.wrong.is_none() {
            self.possible(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, action);
        let (admin, validator) = action.time();
        let mut state = state.canonical(admin, validator, self.policy().lease);
        // Where a database is shared, the clock alone ends the wait: see `Barrier`.
        if !self.shared && state.appended && state.call == Call::Waiting {
            let (left, longest) = (state.enforced_in(), self.policy().wait_out().as_secs());
            let prolonged =
                before.appended && !action.is_restart() && before.enforced_in().saturating_sub(admin) < left;
            if prolonged || longest < left {
                state.wrong = state.wrong.or(Some(Wrong::Prolonged));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no call that starts after Deactivate has returned is answered VALID", |_, s: &State| {
                s.wrong != Some(Wrong::StaleAnswer)
            }),
            Property::always(
                "a deactivation waits no longer than D' and nothing but a restart prolongs it",
                |_, s: &State| s.wrong != Some(Wrong::Prolonged),
            ),
            Property::always("a validator hears every change once", |_, s: &State| s.wrong != Some(Wrong::Gap)),
            Property::sometimes("enforced by acks while a validator holds a lease", |_, s: &State| {
                s.is_enforced(|acked, lapsed| acked > 0 && lapsed == 0)
                    && s.validators.iter().any(|v| v.table == Some(DEACTIVATION) && v.is_leased())
            }),
            Property::sometimes("enforced by lapse while a stale validator runs", |_, s: &State| {
                s.is_enforced(|_, lapsed| lapsed > 0)
                    && s.validators.iter().any(|v| v.table == Some(BEFORE) && !v.is_leased())
            }),
            Property::sometimes("a live lease answers DEACTIVATED after the return", |_, s: &State| {
                s.validators.iter().any(|v| v.table == Some(DEACTIVATION) && v.found_leased())
            }),
        ];
        if self.validators > 1 {
            properties.push(Property::sometimes("an accept and a reject while Deactivate runs", |_, s: &State| {
                let answers = |table| s.validators.iter().any(|v| v.table == Some(table) && v.is_leased());
                s.call == Call::Waiting && answers(BEFORE) && answers(DEACTIVATION)
            }));
        }
        properties
    }
}

impl State {
    /// Whether Deactivate may return now, given how many sessions acked and lapsed.
    fn is_enforced(&self, how: impl Fn(usize, usize) -> bool) -> bool {
        self.call == Call::Waiting && self.enforced().is_some_and(|sum| how(sum.acked, sum.lapsed))
    }
}
