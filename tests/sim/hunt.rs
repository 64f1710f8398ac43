//! Runs each mutant until a seed catches it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use keyward_replica::{BootClock, Clock};
use keyward_tests::report;
use serde_json::Value;

use crate::mutant::Mutant;
use crate::mutants::CODE_MUTANTS;
use crate::mutated;
use crate::workers::{Variant, distribute, run_seed};

/// One of this many seeds must catch a mutant.
const SEEDS: u64 = 60;

/// Runs all mutants. Returns those that were not caught.
pub(crate) fn run() -> Vec<String> {
    let begun = BootClock.now();
    let program = mutated::build();
    report::line(&format!("simulation: sources with mutants built in {} s", BootClock.now().since(begun).as_secs()));
    let around = Mutant::ALL.iter().map(|mutant| (mutant.name(), Variant { mutant: *mutant, code: None }));
    let of_code = CODE_MUTANTS.iter().map(|mutant| {
        let code = Some((program.clone(), mutant.name));
        (mutant.name.to_owned(), Variant { code, ..Variant::default() })
    });
    hunt("around Keyward", &around.collect::<Vec<_>>())
        .into_iter()
        .chain(hunt("of its code", &of_code.collect::<Vec<_>>()))
        .collect()
}

fn hunt(which: &str, mutants: &[(String, Variant)]) -> Vec<String> {
    let found = Mutex::new(BTreeMap::new());
    distribute(mutants.len() as u64, |worker, number| {
        let (name, variant) = &mutants[usize::try_from(number - 1).unwrap()];
        let caught = (1..=SEEDS).find_map(|seed| breach(&run_seed(worker, seed, variant)).map(|breach| (seed, breach)));
        found.lock().unwrap().insert(name.clone(), caught);
    });
    let found = found.into_inner().unwrap();
    let describe = |caught: &Option<(u64, String)>| match caught {
        Some((seeds, breach)) => format!("{seeds} ({breach})"),
        None => "not caught".to_owned(),
    };
    let results: Vec<_> = found.iter().map(|(name, caught)| format!("{name} {}", describe(caught))).collect();
    let missed: Vec<_> = found.iter().filter(|(_, caught)| caught.is_none()).map(|(name, _)| name.clone()).collect();
    let caught = mutants.len() - missed.len();
    report::line(&format!(
        "simulation: {caught} of {} mutants {which} caught, after this many seeds: {}",
        mutants.len(),
        results.join(", ")
    ));
    missed
}

/// Returns the first kind of breach, if there was one.
fn breach(outcome: &Value) -> Option<String> {
    let breaches = outcome["breaches"].as_object().unwrap();
    // Overruns do not count, because mutants are meant to break safety.
    let kinds = ["stale accept", "false reject", "time travel"].into_iter();
    kinds.filter(|kind| breaches[*kind].as_u64() > Some(0)).map(str::to_owned).next()
}
