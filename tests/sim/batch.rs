//! The whole simulation: many seeds, each in its own process, with one process per core.

use std::collections::BTreeMap;
use std::sync::Mutex;

use keyward_replica::{BootClock, Clock};
use keyward_tests::{report, size};
use serde_json::{Value, json};

use crate::hunt;
use crate::simulation::{LENGTH, Outcome};
use crate::workers::{Variant, distribute, run_seed};
use crate::world::VALIDATORS;

/// The kinds of breaches of the guarantee.
const BREACHES: [&str; 4] = ["stale accept", "false reject", "time travel", "overrun"];

/// Counts that must not be zero for the run to count as a test.
const SEEN: [&str; 8] = ["checked", "exact", "within", "stale_lease", "denied", "wait_outs", "early_exits", "timed"];

/// Kinds of faults that must each occur at least once.
const FAULTS: [&str; 15] = [
    "clock rate",
    "crash",
    "cut",
    "hold",
    "late reads",
    "late reply",
    "lost reply",
    "one-way cut",
    "pause",
    "restart",
    "slow",
    "store refusal",
    "store stall",
    "storm",
    "suspend",
];

pub(crate) fn to_json(outcome: &Outcome) -> Value {
    let report = &outcome.report;
    let breaches: BTreeMap<_, _> = BREACHES.iter().map(|kind| (*kind, report.count(kind))).collect();
    let examples: Vec<_> = report.breaches.iter().take(3).map(|(kind, what)| format!("{kind}: {what}")).collect();
    json!({
        "fingerprint": outcome.fingerprint,
        "breaches": breaches,
        "examples": examples,
        "faults": outcome.faults.iter().copied().collect::<BTreeMap<_, _>>(),
        "checked": report.checked,
        "exact": report.exact,
        "within": report.within,
        "stale_lease": report.stale_lease,
        "denied": report.denied,
        "deactivations": report.deactivations,
        "wait_outs": report.wait_outs,
        "early_exits": report.early_exits,
        "timed": report.timed,
        "slowest": report.slowest,
        "unavailable": outcome.unavailable,
        "lost_commits": outcome.lost_commits,
        "recovered": outcome.recovered,
    })
}

/// Runs the seeds twice each, and in the full proof the mutants after them. `KEYWARD_SIM_SEEDS` replaces the number of seeds.
pub(crate) fn run() {
    let begun = BootClock.now();
    let requested = std::env::var("KEYWARD_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds = requested.unwrap_or(size::SIMULATION_SEEDS);
    let total = run_seeds(seeds);
    total.report(BootClock.now().since(begun).as_secs());
    let missed = if size::SIMULATION_MUTANTS { hunt::run() } else { Vec::new() };
    report::line(&format!("simulation: {} s in all", BootClock.now().since(begun).as_secs()));
    total.check(requested.is_none() && size::PROOF);
    assert!(missed.is_empty(), "mutants that no seed has caught: {missed:?}");
}

fn run_seeds(seeds: u64) -> Total {
    let total = Mutex::new(Total { seeds, ..Total::default() });
    distribute(seeds, |worker, seed| {
        let (first, second) =
            (run_seed(worker, seed, &Variant::default()), run_seed(worker, seed, &Variant::default()));
        total.lock().unwrap().add(seed, &first, &second);
    });
    total.into_inner().unwrap()
}

/// The sums over all seeds.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    counts: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    breaches: BTreeMap<String, u64>,
    slowest: f64,
    /// Seeds whose two runs had different traces.
    differ: Vec<u64>,
    examples: Vec<String>,
}

impl Total {
    fn add(&mut self, seed: u64, first: &Value, second: &Value) {
        if first["fingerprint"] != second["fingerprint"] {
            self.differ.push(seed);
        }
        for (name, value) in first.as_object().unwrap() {
            if let Some(count) = value.as_u64() {
                *self.counts.entry(name.clone()).or_default() += count;
            }
        }
        add_all(&mut self.faults, &first["faults"]);
        add_all(&mut self.breaches, &first["breaches"]);
        self.slowest = self.slowest.max(first["slowest"].as_f64().unwrap_or_default());
        let examples = first["examples"].as_array().unwrap();
        self.examples.extend(examples.iter().map(|example| format!("seed {seed}: {example}")));
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    fn report(&self, wall: u64) {
        let count = |name| self.count(name);
        let all = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let simulated = self.seeds * LENGTH.as_secs();
        report::line(&format!(
            "simulation: {} seeds of {} s, {simulated} s simulated, twice each in {wall} s; traces that differ: {}",
            self.seeds,
            LENGTH.as_secs(),
            self.differ.len()
        ));
        report::line(&format!("simulation: {} faults: {}", self.faults.values().sum::<u64>(), all(&self.faults)));
        report::line(&format!(
            "simulation: {} validations checked, {} of them by revision; {} denied, {} unavailable",
            count("checked"),
            count("exact"),
            count("denied"),
            count("unavailable")
        ));
        report::line(&format!(
            "simulation: {} VALID during a Deactivate, {} of them under a lease from before its commit",
            count("within"),
            count("stale_lease")
        ));
        report::line(&format!(
            "simulation: {} Deactivates: {} wait-outs, {} early exits; {} checked against D', the slowest {:.3} s by its admin's clock",
            count("deactivations"),
            count("wait_outs"),
            count("early_exits"),
            count("timed"),
            self.slowest
        ));
        report::line(&format!("simulation: {} commits whose reply was lost", count("lost_commits")));
        report::line(&format!("simulation: breaches: {}", all(&self.breaches)));
    }

    /// Fails if there was a breach, or if the run was no test. `whole`: also requires the figures of the full proof.
    fn check(&self, whole: bool) {
        assert!(self.examples.is_empty(), "breaches: {:#?}", self.examples);
        assert!(self.differ.is_empty(), "two runs of a seed differ: {:?}", self.differ);
        for what in SEEN {
            assert!(self.count(what) > 0, "not a test: {what} is zero");
        }
        assert_eq!(self.count("recovered"), self.seeds * VALIDATORS as u64, "validators that answer in the end");
        if !whole {
            return;
        }
        for kind in FAULTS {
            assert!(self.faults.contains_key(kind), "not a test: no {kind}");
        }
        assert!(self.count("lost_commits") > 0, "not a test: no commit's reply was lost");
        assert!(self.faults.values().sum::<u64>() >= 5_000, "few faults");
        assert!(self.count("checked") >= 1_000_000, "few validations");
        assert!(self.count("wait_outs") >= 500 && self.count("early_exits") >= 500, "few Deactivates");
    }
}

fn add_all(sums: &mut BTreeMap<String, u64>, counts: &Value) {
    for (name, count) in counts.as_object().unwrap() {
        *sums.entry(name.clone()).or_default() += count.as_u64().unwrap();
    }
}
