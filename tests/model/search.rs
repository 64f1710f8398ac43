//! The searches.

use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::mutants::Mutant;
use crate::world::World;

/// One admin with a database to itself, one validator, and every fault.
pub(crate) const ONE: World = World {
    lease: 1,
    admins: 1,
    shared: false,
    validators: 1,
    unreachable: 0,
    renewals: 1,
    kills: true,
    disturbed: 1,
    crashes: true,
    cuts: true,
    goodbyes: true,
    late_up: true,
    late_down: true,
    pauses: true,
    shortens: false,
    lives: 0,
    late_admin: false,
    retries: false,
    asks: false,
    evicts: [false; 2],
    split: [false; 2],
    restores: 0,
    restores_lose_rows: false,
    splits: false,
    punctual: false,
    unrelated: 0,
    accepts: false,
    mutant: None,
};

fn print(line: &str) {
    // Not eprintln: libtest would capture it.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Searches every state of a world: what must be true is, and what should be reachable is.
fn exhaust(name: &str, world: World) {
    let started = Instant::now();
    let checker = world.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    print(&format!("{name}: {states} states, depth {depth}, {:.1} s", started.elapsed().as_secs_f32()));
    if let Some(path) = checker.discovery("no violation") {
        let states = path.into_vec();
        let violation = states.last().and_then(|(state, _)| state.violation);
        panic!("{name}: {violation:?}: {:#?}", states.iter().map(|(_, action)| action).collect::<Vec<_>>());
    }
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Searches until a property is violated. The path there is as short as any.
fn find(mutant: Mutant, world: World) -> bool {
    let started = Instant::now();
    let world = World { mutant: Some(mutant), ..world };
    let safety = world.properties().into_iter().filter(|p| p.expectation == Expectation::Always).map(|p| p.name);
    let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyOf(safety.collect())).spawn_bfs().join();
    let (states, seconds) = (checker.unique_state_count(), started.elapsed().as_secs_f32());
    let Some(path) = checker.discovery("no violation") else {
        // A mistake may be safe, but keep something from ever happening.
        let missing = world.properties().into_iter().filter(|property| property.expectation == Expectation::Sometimes);
        if let Some(missing) = missing.into_iter().find(|property| checker.discovery(property.name).is_none()) {
            print(&format!("{mutant:?}: never: {}, in {states} states, {seconds:.1} s", missing.name));
            return true;
        }
        print(&format!("{mutant:?}: NOT FOUND in {states} states, {seconds:.1} s"));
        return false;
    };
    let path = path.into_vec();
    let violation = path.last().and_then(|(state, _)| state.violation).unwrap();
    let steps: Vec<_> = path.into_iter().filter_map(|(_, action)| action).collect();
    print(&format!(
        "{mutant:?}: {violation:?} after {} steps, {states} states, {seconds:.1} s: {steps:?}",
        steps.len()
    ));
    true
}

/// The world in which a mutant is found.
fn world_of(mutant: Mutant) -> World {
    match mutant {
        Mutant::LeaseFromReceipt
        | Mutant::LeaseFromNewestRenewal
        | Mutant::TableBeforeLease
        | Mutant::AckBeforeApply
        | Mutant::RetryReturnsAtOnce
        | Mutant::RestartForgets
        | Mutant::ReleaseOnDisconnect
        | Mutant::GoodbyeKeepsLease
        | Mutant::GoodbyeBeforeLeaseDropped
        | Mutant::ClockStopsInSleep
        | Mutant::NoMargin
        | Mutant::GrantOvertakes
        | Mutant::FenceOfAppliedRevision
        | Mutant::JoinAfterSnapshot => World { renewals: 2, ..ONE },
        Mutant::FenceOfNewestRevision => {
            World { kills: false, crashes: false, cuts: false, goodbyes: false, pauses: false, ..ONE }
        }
        Mutant::OnlyLastLife => SHORTENING,
        Mutant::BasisAtReply | Mutant::HeartbeatWithoutRevision => ELSEWHERE,
        Mutant::BasisWithoutHeartbeat => World { late_up: true, late_down: true, ..ELSEWHERE },
        Mutant::OwnLifeOnly => MOVING,
        Mutant::PeersUnasked => SPLIT,
        Mutant::EvictedTooEarly => World { evicts: [true, false], ..MOVING },
        Mutant::ValidatorGoesBack | Mutant::AnswersBeforeApplied | Mutant::SilenceIsAnAnswer => MOVING,
        Mutant::AnswersForAnotherLife => World { kills: true, lives: 1, ..MOVING },
        Mutant::FenceBeforeCommit => World { split: [true, false], lives: 1, late_admin: true, ..MOVING },
        Mutant::FenceSurvivesFork | Mutant::LeaseSurvivesFork => FORK,
        Mutant::WithheldDroppedOnSecondFork | Mutant::ReloadUnchecked => World { restores: 2, ..FORK },
        Mutant::ReportUnchecked => World { kills: true, restores: 2, ..FORK },
        Mutant::SeenForgotten => World { kills: true, accepts: true, restores: 2, unrelated: 2, ..FORK },
        Mutant::SuspectIgnored | Mutant::WelcomeAlwaysContinues | Mutant::PositionByRevisionOnly => {
            World { kills: true, ..FORK }
        }
        Mutant::StartAfterForkForgets => {
            World { shared: true, kills: true, lives: 1, restores_lose_rows: true, ..FORK }
        }
        Mutant::DoubtIgnored => World { kills: true, lives: 1, unrelated: 1, ..FORK_OF_TWO },
    }
}

const SHORTENING: World = World { lease: 3, shortens: true, crashes: false, cuts: false, goodbyes: false, ..ONE };

/// One of several admins over one database.
const SHARED: World =
    World { shared: true, split: [true, false], kills: false, crashes: false, cuts: true, goodbyes: false, ..ONE };

/// The same where the deactivation is made at another admin, out of the validator's reach.
const ELSEWHERE: World = World {
    admins: 2,
    unreachable: 1,
    split: [false, true],
    late_up: false,
    late_down: false,
    pauses: false,
    asks: true,
    ..SHARED
};

/// Two admins over one database, and a validator that moves between them with two sessions for a while.
pub(crate) const MOVING: World = World {
    admins: 2,
    shared: true,
    kills: false,
    crashes: false,
    cuts: true,
    goodbyes: true,
    late_up: false,
    late_down: false,
    pauses: false,
    asks: true,
    ..ONE
};

/// A database that may lose its last change.
pub(crate) const FORK: World = World {
    restores: 1,
    unrelated: 1,
    kills: false,
    crashes: false,
    goodbyes: false,
    late_up: false,
    late_down: false,
    pauses: false,
    ..ONE
};

/// The same with two admins.
const FORK_OF_TWO: World = World { admins: 2, shared: true, unreachable: 1, cuts: false, unrelated: 0, ..FORK };

/// The deactivation is made at one of two database servers that take writes, and the validator's admin is at the other.
pub(crate) const SPLIT: World = World {
    lease: 2,
    splits: true,
    punctual: true,
    evicts: [true, false],
    split: [false; 2],
    cuts: false,
    ..ELSEWHERE
};

/// Worlds that are searched every day.
const SMALL: [(&str, World); 3] = [
    ("1 admin, 1 validator, crashes of both", World { cuts: false, goodbyes: false, late_down: false, ..ONE }),
    ("2 admins, 1 validator that moves, no faults", World { cuts: false, goodbyes: false, ..MOVING }),
    ("1 admin, 1 validator, the database loses a change", World { kills: true, crashes: true, accepts: true, ..FORK }),
];

/// Worlds that are searched for the full proof.
#[cfg(feature = "proof")]
const LARGE: [(&str, World); 22] = [
    ("1 admin, 1 validator, 2 renewals under way, every fault", World { renewals: 2, ..ONE }),
    ("1 admin, 1 validator, leases of 2 ticks, every fault", World { lease: 2, ..ONE }),
    ("1 admin, 1 validator, leases of 3 ticks, then of 1, crashes", World { crashes: true, ..SHORTENING }),
    ("1 admin, 2 validators, no faults", TWO_VALIDATORS),
    ("1 admin, 2 validators, crashes of the admin", World { kills: true, ..TWO_VALIDATORS }),
    ("1 admin with heartbeats, 1 validator, everything late, cuts", SHARED),
    (
        "1 admin with heartbeats, 1 validator, crashes of the admin",
        World { kills: true, lives: 1, cuts: false, ..SHARED },
    ),
    ("2 admins, the deactivation elsewhere, late heartbeats, cuts", ELSEWHERE),
    (
        "2 admins, the deactivation elsewhere, 2 validators",
        World { validators: 2, cuts: false, split: [false; 2], ..ELSEWHERE },
    ),
    ("2 admins, 1 validator that moves, cuts, crashes of the validator", World { crashes: true, ..MOVING }),
    ("2 admins, 1 validator that moves, cuts, grants and snapshots late", World { late_down: true, ..MOVING }),
    ("2 admins, 1 validator that moves, cuts, the silent are evicted", World { evicts: [true, false], ..MOVING }),
    (
        "2 admins, 1 validator that moves, an admin crashes or begins late",
        World { kills: true, lives: 1, late_admin: true, cuts: false, ..MOVING },
    ),
    ("2 admins, 1 validator that moves, retries at the other admin", World { retries: true, cuts: false, ..MOVING }),
    // Together they have 12 million states, which need about 14 GB.
    ("1 admin, 1 validator, the database loses a change, cuts, everything late", World { late_up: true, ..FORK }),
    (
        "1 admin, 1 validator, the database loses a change, crashes of the admin, everything late",
        World { kills: true, cuts: false, late_up: true, ..FORK },
    ),
    ("1 admin, 1 validator, the database loses two changes", World { kills: true, restores: 2, ..FORK }),
    ("1 admin, 2 validators, the database loses a change", World { validators: 2, kills: true, cuts: false, ..FORK }),
    (
        "1 admin with heartbeats, the database loses a change and the lives",
        World { shared: true, kills: true, lives: 1, restores_lose_rows: true, ..FORK },
    ),
    ("2 admins, 1 validator of one of them, the database loses a change", FORK_OF_TWO),
    ("2 admins at 2 servers that take writes, 1 validator of one of them", SPLIT),
    ("2 admins at 2 servers that take writes, leases of 3 ticks", World { lease: 3, ..SPLIT }),
];

#[cfg(feature = "proof")]
const TWO_VALIDATORS: World = World {
    validators: 2,
    kills: false,
    crashes: false,
    cuts: false,
    goodbyes: false,
    disturbed: 0,
    pauses: false,
    ..ONE
};

/// Mutants that are searched every day: one for each mechanism.
const FEW: [Mutant; 6] = [
    Mutant::RetryReturnsAtOnce,
    Mutant::RestartForgets,
    Mutant::GrantOvertakes,
    Mutant::SilenceIsAnAnswer,
    Mutant::FenceSurvivesFork,
    Mutant::WelcomeAlwaysContinues,
];

#[test]
fn small_worlds_hold() {
    SMALL.into_iter().for_each(|(name, world)| exhaust(name, world));
}

#[test]
#[cfg(feature = "proof")]
fn every_world_holds() {
    LARGE.into_iter().for_each(|(name, world)| exhaust(name, world));
}

#[test]
fn a_few_mutants_are_found() {
    assert!(FEW.into_iter().all(|mutant| find(mutant, world_of(mutant))));
}

#[test]
#[cfg(feature = "proof")]
fn every_mutant_is_found() {
    let missed: Vec<_> = Mutant::ALL.into_iter().filter(|mutant| !find(*mutant, world_of(*mutant))).collect();
    print(&format!("{} of {} mutants found", Mutant::ALL.len() - missed.len(), Mutant::ALL.len()));
    assert!(missed.is_empty(), "{missed:?}");
}

/// Searches the world that `KEYWARD_MODEL` describes, or looks for the mutants that it names:
/// `KEYWARD_MODEL='moving cuts kills lives=1' cargo test -p keyward-model words -- --nocapture`.
#[test]
fn a_world_described_by_words_holds() {
    // Two admins that do not ask each other: a fence then always waits for the leases of the other one.
    let words = std::env::var("KEYWARD_MODEL").unwrap_or_else(|_| "moving cuts=0 goodbyes=0 asks=0".to_owned());
    let (mutants, words): (Vec<_>, Vec<_>) =
        words.split_whitespace().partition(|word| word.starts_with(char::is_uppercase));
    let described = (!words.is_empty()).then(|| words.iter().fold(ONE, |world, word| with(world, word)));
    if mutants.is_empty() {
        exhaust(&words.join(" "), described.unwrap_or(ONE));
    }
    for name in mutants {
        let mutant = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name);
        let mutant = mutant.unwrap_or_else(|| panic!("no mutant is called {name}"));
        assert!(find(mutant, described.unwrap_or_else(|| world_of(mutant))));
    }
}

fn with(world: World, word: &str) -> World {
    let (word, number) = word.split_once('=').map_or((word, 1), |(word, n)| (word, n.parse().unwrap()));
    let (yes, n) = (number != 0, number as usize);
    match word {
        "one" => ONE,
        "shared" => SHARED,
        "elsewhere" => ELSEWHERE,
        "moving" => MOVING,
        "fork" => FORK,
        "fork-of-two" => FORK_OF_TWO,
        "lose-rows" => World { restores_lose_rows: yes, ..world },
        "split-brain" => SPLIT,
        "shortening" => SHORTENING,
        "lease" => World { lease: number, ..world },
        "admins" => World { admins: n, shared: n == 2 || world.shared, ..world },
        "is-shared" => World { shared: yes, ..world },
        "validators" => World { validators: n, ..world },
        "unreachable" => World { unreachable: n, ..world },
        "disturbed" => World { disturbed: n, ..world },
        "renewals" => World { renewals: n, ..world },
        "lives" => World { lives: n, ..world },
        "restores" => World { restores: number as u8, ..world },
        "unrelated" => World { unrelated: n, ..world },
        "kills" => World { kills: yes, ..world },
        "crashes" => World { crashes: yes, ..world },
        "cuts" => World { cuts: yes, ..world },
        "goodbyes" => World { goodbyes: yes, ..world },
        "late-up" => World { late_up: yes, ..world },
        "late-down" => World { late_down: yes, ..world },
        "pauses" => World { pauses: yes, ..world },
        "late-admin" => World { late_admin: yes, ..world },
        "retries" => World { retries: yes, ..world },
        "asks" => World { asks: yes, ..world },
        "evicts" => World { evicts: [n > 0, n > 1], ..world },
        "split" => World { split: [n & 1 > 0, n & 2 > 0], ..world },
        "splits" => World { splits: yes, ..world },
        "punctual" => World { punctual: yes, ..world },
        "accepts" => World { accepts: yes, ..world },
        _ => panic!("no world has {word}"),
    }
}
