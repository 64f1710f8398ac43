//! Simulations in processes of their own, one process a core.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::mutant::Mutant;
use crate::mutated::CHOICE;

/// What is simulated: Keyward, or something that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// What is wrong around Keyward.
    pub(crate) mutant: Mutant,
    /// What is wrong in Keyward, and the program that has it.
    pub(crate) code: Option<(PathBuf, &'static str)>,
}

impl Default for Variant {
    fn default() -> Self {
        Self { mutant: Mutant::None, code: None }
    }
}

/// A seed in a process of its own; its outcome.
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
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("seed {seed} of {variant:?} ended by {}: {said}", output.status)
    })
}

/// Keeps this thread and the processes that it starts to one core: a simulation's threads wait for each other all the
/// time, which is quickest on one. Where that is not allowed it is only slower.
fn pin(worker: usize) {
    let mut cores = CpuSet::new();
    cores.set(worker % CpuSet::MAX_CPU);
    let _ = sched_setaffinity(None, &cores);
}

/// Has every worker take numbers from 1 to `last`, as long as it wants more.
pub(crate) fn share(last: u64, work: impl Fn(usize, u64) + Sync) {
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
