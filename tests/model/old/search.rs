//! The searches.

use std::fmt::Debug;
use std::hash::Hash;
use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::mutants::Mutant;
use crate::world::{Faults, World};

pub(crate) const ONE: World = World {
    lease: 1,
    validators: 1,
    renewals: 2,
    faults: Faults::ALL,
    disturbed: 1,
    shared: false,
    shortens: false,
    mutant: None,
};

/// Leases of three ticks by the first lives, of one by the last.
const SHORTENING: World =
    World { lease: 3, renewals: 1, shortens: true, faults: Faults { crashes: true, ..Faults::NONE }, ..ONE };

/// One of several admins over one database.
const SHARED: World = World { renewals: 1, shared: true, ..ONE };

/// A world that can be searched.
pub(crate) trait Searched:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static, Action: Clone + Debug + PartialEq>
    + Send
    + Sync
    + 'static
{
}

impl<M> Searched for M where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static, Action: Clone + Debug + PartialEq>
        + Send
        + Sync
        + 'static
{
}

pub(crate) fn say(line: &str) {
    // Not eprintln: libtest would keep it to itself.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Searches every state of a world, and finds that all that must be true is, and all that should happen does.
pub(crate) fn exhaust(name: &str, world: impl Searched) {
    let started = Instant::now();
    let checker = world.checker().spawn_bfs().join();
    let (unique, generated) = (checker.unique_state_count(), checker.state_count());
    say(&format!("{name}: {unique} states, {generated} generated, {:.1} s", started.elapsed().as_secs_f32()));
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Searches until something is wrong. The path there is as short as any.
pub(crate) fn find(mutant: Mutant, world: impl Searched) -> Option<String> {
    let started = Instant::now();
    let properties = world.properties();
    let safety = properties.iter().filter(|p| p.expectation == Expectation::Always).map(|p| p.name);
    let checker = world.checker().finish_when(HasDiscoveries::AnyOf(safety.clone().collect())).spawn_bfs().join();
    let (broken, path) = safety.into_iter().find_map(|name| Some((name, checker.discovery(name)?)))?;
    let (steps, states) = (path.into_actions(), checker.unique_state_count());
    let (count, time) = (steps.len(), started.elapsed().as_secs_f32());
    Some(format!("{mutant:?}: {count} steps, {states} states, {time:.1} s; not so: {broken}: {steps:?}"))
}

fn find_with_one_admin(mutant: Mutant) -> Option<String> {
    let world = match mutant {
        Mutant::OnlyLastLife => SHORTENING,
        mutant if mutant.needs_a_shared_database() => {
            World { faults: Faults { crashes: mutant.needs_a_former_life(), ..Faults::NONE }, ..SHARED }
        }
        _ => ONE,
    };
    find(mutant, World { mutant: Some(mutant), ..world })
}

#[test]
fn one_validator_is_never_stale_after_the_return_whatever_crashes_and_breaks() {
    exhaust("1 admin, 1 validator, 2 renewals under way, leases of 1 tick", ONE);
}

#[test]
fn longer_leases_change_nothing() {
    exhaust("1 admin, 1 validator, 1 renewal under way, leases of 2 ticks", World { lease: 2, renewals: 1, ..ONE });
}

#[test]
fn leases_may_become_shorter_if_the_longest_are_waited_out() {
    exhaust("1 admin, 1 validator, leases of 3 ticks, then of 1, crashes only", SHORTENING);
}

#[test]
fn two_validators_are_never_stale_after_the_return() {
    let two = World { validators: 2, renewals: 1, faults: Faults::NONE, ..ONE };
    exhaust("1 admin, 2 validators, no faults", two);
}

#[test]
fn two_validators_are_never_stale_after_the_return_whenever_the_admin_restarts() {
    let faults = Faults { crashes: true, ..Faults::NONE };
    let two = World { validators: 2, renewals: 1, faults, disturbed: 0, ..ONE };
    exhaust("1 admin, 2 validators, crashes of the admin", two);
}

#[test]
fn one_validator_is_never_stale_after_the_return_wherever_the_deactivation_was_made() {
    // Both at once are four million states, and nothing was found there either.
    let crashes = Faults { crashes: true, ..Faults::NONE };
    exhaust("1 admin of several, 1 validator, heartbeats, crashes", World { faults: crashes, ..SHARED });
    let cuts = Faults { cuts: true, ..Faults::NONE };
    exhaust("1 admin of several, 1 validator, heartbeats, cuts", World { faults: cuts, ..SHARED });
}

#[test]
fn two_validators_are_never_stale_after_the_return_wherever_the_deactivation_was_made() {
    let two = World { validators: 2, faults: Faults::NONE, ..SHARED };
    exhaust("1 admin of several, 2 validators, heartbeats, no faults", two);
}

#[test]
fn every_mistake_is_found() {
    let with_one: Vec<_> = Mutant::ALL.into_iter().filter(|mutant| !mutant.needs_two_admins()).collect();
    let missed: Vec<_> =
        with_one.iter().filter(|mutant| find_with_one_admin(**mutant).map(|found| say(&found)).is_none()).collect();
    let all = with_one.len();
    say(&format!("with one admin: {} of {all} mistakes found", all - missed.len()));
    assert!(missed.is_empty(), "{missed:?}");
}
