//! The searches.

use crate::mutants::Mutant;
use crate::search::{exhaust, find, say};
use crate::two::world::World;

const CALM: World = World {
    lease: 1,
    cuts: false,
    goodbyes: false,
    crashes: false,
    kills: false,
    lives: 0,
    retries: false,
    strikes: [false; 2],
    split: [false; 2],
    late: false,
    inversion: false,
    mutant: None,
};

/// A validator that moves, with two sessions at once in between.
const MOVING: World = World { goodbyes: true, ..CALM };

#[test]
fn a_validator_between_two_admins_is_never_stale_after_the_return() {
    exhaust(
        "2 admins, 1 validator that moves, cuts, crashes of the validator",
        World { cuts: true, crashes: true, inversion: true, ..MOVING },
    );
}

#[test]
fn nor_when_it_hears_everything_late() {
    exhaust(
        "2 admins, 1 validator that moves, cuts, grants and snapshots late",
        World { cuts: true, late: true, ..MOVING },
    );
}

#[test]
fn nor_when_the_other_admin_is_struck_off() {
    exhaust(
        "2 admins, 1 validator that moves, cuts, the silent are struck off",
        World { cuts: true, strikes: [true, false], ..MOVING },
    );
}

#[test]
fn nor_when_an_admin_begins_late_or_is_killed() {
    exhaust("2 admins, 1 validator that moves, 1 admin killed or late", World { kills: true, lives: 1, ..MOVING });
}

#[test]
fn nor_when_the_client_asks_the_other_admin() {
    exhaust("2 admins, 1 validator that moves, retries at either", World { retries: true, ..MOVING });
}

/// Searches a world that is too large for every day: `KEYWARD_MODEL='goodbyes cuts kills lives=1' cargo test …`.
#[test]
fn by_hand() {
    let Ok(words) = std::env::var("KEYWARD_MODEL") else { return };
    exhaust(&format!("2 admins, 1 validator, {words}"), words.split_whitespace().fold(CALM, with));
}

fn with(world: World, word: &str) -> World {
    match word.split_once('=') {
        Some(("lease", n)) => World { lease: n.parse().unwrap(), ..world },
        Some(("lives", n)) => World { lives: n.parse().unwrap(), ..world },
        _ => match word {
            "cuts" => World { cuts: true, ..world },
            "goodbyes" => World { goodbyes: true, ..world },
            "crashes" => World { crashes: true, ..world },
            "kills" => World { kills: true, ..world },
            "retries" => World { retries: true, ..world },
            "strikes" => World { strikes: [true; 2], ..world },
            "strikes-first" => World { strikes: [true, false], ..world },
            "split" => World { split: [true; 2], ..world },
            "split-first" => World { split: [true, false], ..world },
            "split-second" => World { split: [false, true], ..world },
            "late" => World { late: true, ..world },
            "inversion" => World { inversion: true, ..world },
            _ => panic!("no world knows {word}"),
        },
    }
}

fn find_with_two_admins(mutant: Mutant) -> Option<String> {
    let world = World { goodbyes: true, cuts: true, mutant: Some(mutant), ..CALM };
    let world = match mutant {
        Mutant::StruckOffEarly => World { strikes: [true, false], ..world },
        Mutant::RetryNoop => World { retries: true, ..world },
        Mutant::AnswersForAnotherLife => World { kills: true, lives: 1, ..world },
        Mutant::ListedBeforeCommit => World { split: [true, false], lives: 1, ..world },
        _ => world,
    };
    find(mutant, world)
}

#[test]
fn every_mistake_between_two_admins_is_found() {
    let missed: Vec<_> = Mutant::BETWEEN_ADMINS
        .into_iter()
        .filter(|mutant| find_with_two_admins(*mutant).map(|found| say(&found)).is_none())
        .collect();
    let all = Mutant::BETWEEN_ADMINS.len();
    say(&format!("with two admins: {} of {all} mistakes found", all - missed.len()));
    assert!(missed.is_empty(), "{missed:?}");
}
