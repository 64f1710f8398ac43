//! The simulation of one seed.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use mad_turmoil::time::SimClocksGuard;
use rand::SeedableRng;
use rand::rngs::StdRng;
use turmoil::{Builder, Sim};

use crate::checker::{Report, check};
use crate::faults::{Faults, GATEWAY, OPERATOR};
use crate::mutant::Mutant;
use crate::time::STEP;
use crate::world::{ADMINS, VALIDATORS, World};
use crate::{gateway, node, operator};

/// When the first fault occurs. By then every process is ready and holds leases.
const FIRST_FAULT: Duration = Duration::from_millis(1_500);

/// The time after which there are no faults, so that pending calls can finish.
pub(crate) const CALM: Duration = Duration::from_millis(20_500);

/// The length of a simulation.
pub(crate) const LENGTH: Duration = Duration::from_secs(24);

/// The shortest and the longest latency of a message without a fault.
pub(crate) const QUICKEST: Duration = Duration::from_millis(1);
pub(crate) const SLOWEST: Duration = Duration::from_millis(12);

/// The interval at which the mutant evicts admins.
const STRIKES: Duration = Duration::from_millis(300);

/// The result of a simulation.
pub(crate) struct Outcome {
    pub(crate) fingerprint: String,
    pub(crate) report: Report,
    pub(crate) faults: Vec<(&'static str, u64)>,
    pub(crate) lost_commits: u64,
    pub(crate) unavailable: u64,
    /// The number of validators that answered at the end.
    pub(crate) recovered: u64,
}

/// Runs a seed. At most once per process, because randomness and global counters belong to the process.
pub(crate) fn simulate(seed: u64, mutant: Mutant, loud: bool) -> Outcome {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = SimClocksGuard::init();
    let world = World::new(seed, mutant, loud);
    let mut sim = build(&world);
    let mut faults = Faults::new(&world, FIRST_FAULT);
    while sim.elapsed() < LENGTH {
        let calm = sim.elapsed() >= CALM;
        faults.step(&mut sim, calm);
        if mutant == Mutant::EvictedEarly && sim.elapsed().as_millis().is_multiple_of(STRIKES.as_millis()) {
            world.evict_all_admins();
        }
        sim.step().unwrap();
    }
    let history = world.history();
    let last = LENGTH - Duration::from_millis(500);
    let answering = (0..VALIDATORS)
        .filter(|validator| history.answers.iter().rev().any(|a| a.validator == *validator && a.sent > last));
    Outcome {
        fingerprint: history.fingerprint(),
        report: check(&history, &faults),
        recovered: answering.count() as u64,
        faults: faults.counts.iter().map(|(kind, count)| (*kind, *count)).collect(),
        lost_commits: world.database_links.iter().map(crate::database::DatabaseLink::lost_commits).sum(),
        unavailable: history.unavailable,
    }
}

fn build<'a>(world: &Arc<World>) -> Sim<'a> {
    let mut sim = Builder::new()
        .rng_seed(world.seed)
        .epoch(UNIX_EPOCH)
        .simulation_duration(LENGTH * 2)
        .tick_duration(STEP)
        .min_message_latency(QUICKEST)
        .max_message_latency(SLOWEST)
        .tcp_capacity(1_024)
        .enable_random_order()
        .build();
    for index in 0..ADMINS {
        let world = Arc::clone(world);
        sim.host(format!("admin-{index}"), move || node::admin(Arc::clone(&world), index));
    }
    for index in 0..VALIDATORS {
        let world = Arc::clone(world);
        sim.host(format!("validator-{index}"), move || node::validator(Arc::clone(&world), index));
    }
    sim.client(OPERATOR, operator::operate(Arc::clone(world), LENGTH));
    sim.client(GATEWAY, gateway::validate_until(Arc::clone(world), LENGTH));
    sim
}
