//! How large each run is, in either test command. This module is the only place in which the two commands differ, except for
//! the model's worlds (`tests/model`).
//!
//! `cargo test --workspace` is for people, and takes minutes. [`PROOF_COMMAND`] is the full proof; `.ci/run` runs both. The
//! feature `proof` of this crate and of `keyward-model` compiles the tests of [`ONLY_IN_THE_PROOF`], and raises every size
//! below to its full value.

/// The command of the full proof.
pub const PROOF_COMMAND: &str = "cargo proof";

/// `true` in the full proof.
pub const PROOF: bool = cfg!(feature = "proof");

/// What the full proof adds: tests and modules, each behind its file in `tests/`, and whole test targets. A rule holds this
/// list equal to what the sources gate by the feature.
pub const ONLY_IN_THE_PROOF: &[&str] = &[
    "Cargo.toml: chaos",
    "it/cluster.rs: a_database_stall_shorter_than_a_lease_makes_no_validation_unavailable",
    "it/cluster.rs: no_deactivated_key_is_accepted_while_validators_move_between_peers",
    "it/main.rs: pauses",
    "it/main.rs: versions",
    "it/store/mod.rs: each_version",
    "model/search.rs: every_mutant_is_found",
    "model/search.rs: every_world_holds",
    "rules/main.rs: tools",
    "src/parts/npm.rs: a_package_that_cannot_be_fetched_is_an_error_that_names_it_and_the_cause",
];

/// The size in `cargo test --workspace`, or the size in the proof.
const fn either(people: usize, proof: usize) -> usize {
    if PROOF { proof } else { people }
}

/// Deactivations, one after the other, in each test that asks every validator or gateway about each of them.
pub const DEACTIVATIONS: usize = either(20, 200);

/// Deactivations while validators move between two admins, 25 at a time; and how often the validators move at least.
pub const DEACTIVATIONS_AMONG_MOVES: usize = either(25, 200);
/// See [`DEACTIVATIONS_AMONG_MOVES`].
pub const MOVES: usize = either(8, 200);

/// Deactivations that wait for a suspended validator, each at another moment of the validator's renewals.
pub const STOPPED_VALIDATORS: u32 = either(2, 8) as u32;

/// Admins that are killed while clients create keys.
pub const KILLS: usize = either(2, 6);

/// Of the hostile requests, `cargo test --workspace` sends every eighth to every gateway.
pub const HOSTILE_ROWS_STEP: usize = either(8, 1);

/// Changes of each writer, of several that write to a store at once.
pub const CHANGES_OF_A_WRITER: usize = either(100, 1_000);

/// Ways in which a change log is tampered with.
pub const TAMPERINGS: usize = either(100, 1_000);

/// Of the writes and messages of a change, `cargo test --workspace` has every fifth fail.
pub const FAULT_POSITIONS_STEP: usize = either(5, 1);

/// Seeds of the simulation, each run twice.
pub const SIMULATION_SEEDS: u64 = either(10, 300) as u64;

/// `true` if the simulation also has to catch every mutant.
pub const SIMULATION_MUTANTS: bool = PROOF;
