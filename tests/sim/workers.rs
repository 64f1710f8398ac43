//! Runs simulations in child processes, with one worker per core.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::mutant::Mutant;
use crate::mutated::CHOICE;

/// The code that is simulated: Keyward, or a mutant.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// An error around Keyward.
    pub(crate) mutant: Mutant,
    /// An error in Keyward's code: the program that contains it, and its name.
    pub(crate) code: Option<(PathBuf, &'static str)>,
}

impl Default for Variant {
    fn default() -> Self {
        Self { mutant: Mutant::None, code: None }
    }
}

/// Runs a seed in a child process. Returns its result.
pub(crate) fn run_seed(worker: usize, seed: u64, variant: &Variant) -> Value {
    let mut child = match &variant.code {
        Some((program, choice)) => {
            let mut child = Command::new(program);
            child.env(CHOICE, choice);
            child
        }
        None => Command::new(std::env::current_exe().unwrap()),
    };
    child.args(["quietly", &seed.to_string(), &variant.mutant.name()]).stdin(Stdio::null()).stderr(Stdio::piped());
    pin(worker);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let outcome = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    outcome.unwrap_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("seed {seed} of {variant:?} ended by {}: {stderr}", output.status)
    })
}

/// Pins this thread and its child processes to one core. The threads of a simulation wait for each other all the time,
/// which is fastest on one core. Where pinning is not allowed, the simulation is only slower.
fn pin(worker: usize) {
    let mut cores = CpuSet::new();
    cores.set(worker % CpuSet::MAX_CPU);
    let _ = sched_setaffinity(None, &cores);
}

/// Distributes the numbers from 1 to `last` over the workers.
pub(crate) fn distribute(last: u64, work: impl Fn(usize, u64) + Sync) {
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for worker in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > last {
                        return;
                    }
                    work(worker, number);
                }
            });
        }
    });
}
