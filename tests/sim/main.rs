//! Keyward's servers on a simulated network, with simulated clocks and one database in memory, by seed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod checker;
mod database;
mod faults;
mod gateway;
mod history;
mod mutant;
mod net;
mod node;
mod operator;
mod simulation;
mod time;
mod world;

use mutant::Mutant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seed: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    let mutant = arguments.next().and_then(|name| Mutant::named(&name)).unwrap_or(Mutant::None);
    let loud = std::env::var_os("KEYWARD_SIM_LOUD").is_some();
    let outcome = simulation::simulate(seed, mutant, loud);
    let report = &outcome.report;
    println!(
        "{} {:?} checked {} exact {} within {} stale {} denied {} deact {} waitout {} early {} timed {} slowest {:.3} unavailable {} lost {} recovered {}",
        outcome.fingerprint,
        outcome.faults,
        report.checked,
        report.exact,
        report.within,
        report.stale_lease,
        report.denied,
        report.deactivations,
        report.wait_outs,
        report.early_exits,
        report.timed,
        report.slowest,
        outcome.unavailable,
        outcome.lost_commits,
        outcome.recovered
    );
    for (kind, what) in report.breaches.iter().take(5) {
        println!("BREACH {kind}: {what}");
    }
    println!("{} breaches", report.breaches.len());
}
