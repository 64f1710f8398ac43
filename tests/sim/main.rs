//! Simulation of Keyward's servers by seed, on a simulated network, with simulated clocks and one database in memory.
//!
//! `cargo test --test sim` runs everything. `cargo test --test sim -- seed 7` runs one seed and prints every event; the
//! name of a mutant after the seed selects that mutant.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod batch;
mod checker;
mod database;
mod faults;
mod gateway;
mod history;
mod hunt;
mod mutant;
mod mutants;
mod mutated;
mod net;
mod node;
mod operator;
mod simulation;
mod time;
mod workers;
mod world;

use mutant::Mutant;

/// The name by which the filters of `cargo test` select this test.
const NAME: &str = "simulation";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["seed", seed] => one(seed, Mutant::None, true),
        ["seed", seed, mutant] => one(seed, Mutant::named(mutant).expect("no such mutant"), true),
        ["quietly", seed, mutant] => one(seed, Mutant::named(mutant).unwrap_or(Mutant::None), false),
        ["mutants"] => assert!(hunt::run().is_empty(), "a mutant was not caught"),
        _ if arguments.contains(&"--list") => println!("{NAME}: test"),
        _ if arguments.iter().all(|a| a.starts_with('-') || a.parse::<u64>().is_ok() || NAME.contains(a)) => {
            batch::run();
        }
        _ => {}
    }
}

/// Runs one seed in this process.
fn one(seed: &str, mutant: Mutant, loud: bool) {
    let outcome = simulation::simulate(seed.parse().expect("a seed is a number"), mutant, loud);
    println!("{}", batch::to_json(&outcome));
}
