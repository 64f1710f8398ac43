//! What is counted, and what must not be zero.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::history::Violation;
use crate::schedule::VALIDATORS;

/// Violations that are told; more of them say nothing new.
const TOLD: usize = 20;

/// A counter that many tasks count on.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that a run counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) valid: Count,
    /// Of those: asked and answered while a deactivation of that key was running.
    pub(crate) valid_amid: Count,
    pub(crate) refused: Count,
    /// Of those: asked within D' after the return of a deactivation of that key.
    pub(crate) refused_soon: Count,
    /// Questions that a validator had no lease to answer.
    pub(crate) no_lease: Count,
    /// Questions that no process answered.
    pub(crate) lost: Count,
    pub(crate) deactivated: Count,
    pub(crate) by_acks: Count,
    pub(crate) by_wait_out: Count,
    /// Deactivations that returned committed, and not yet enforced.
    pub(crate) not_yet: Count,
    /// Those that a `WaitEnforced` or the key's own state then showed as enforced.
    pub(crate) waited_on: Count,
    /// Deactivations whose outcome the caller could not know.
    pub(crate) unknown: Count,
    /// Of those and of the ones not yet enforced: repeated with success, at the other admin.
    pub(crate) repeated: Count,
    pub(crate) activated: Count,
    /// Deactivations that were held to their time.
    pub(crate) judged: Count,
    /// Of those: failed, and nothing is known to be committed.
    pub(crate) judged_unknown: Count,
    /// Processes that ended by themselves, and were started again.
    pub(crate) ended: Count,
    longest: Mutex<(Duration, Duration)>,
    silent: Mutex<BTreeSet<(usize, u64)>>,
    violations: Mutex<Vec<(Violation, String)>>,
    pub(crate) violated: Notify,
}

impl Tally {
    /// Notes that a validator had no lease in that second of the run.
    pub(crate) fn silent_in(&self, validator: usize, second: u64) {
        self.no_lease.one();
        self.silent.lock().unwrap().insert((validator, second));
    }

    /// Notes how long after its commit a deactivation returned, and how much noise there was meanwhile.
    pub(crate) fn took(&self, time: Duration, noise: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = (*longest).max((time, noise));
    }

    /// Notes what must not happen, and ends the run.
    pub(crate) fn violation(&self, what: Violation, told: impl FnOnce() -> String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < TOLD {
            violations.push((what, told()));
        }
        self.violated.notify_one();
    }

    /// What must not happen, and has.
    pub(crate) fn violations(&self) -> Vec<(Violation, String)> {
        self.violations.lock().unwrap().clone()
    }

    /// Validations that were answered with a verdict.
    pub(crate) fn verdicts(&self) -> usize {
        self.valid.get() + self.refused.get()
    }

    /// The figures of a run of that many seconds.
    pub(crate) fn figures(&self, seconds: u64) -> String {
        let violations = self.violations();
        let of = |kind| violations.iter().filter(|(what, _)| *what == kind).count();
        let ((longest, noise), silent) = (*self.longest.lock().unwrap(), self.silent.lock().unwrap().len());
        let n = Count::get;
        format!(
            "{} validations, {}/s: {} valid ({} amid a deactivation of theirs), {} refused ({} asked within D' after the return); {} without \
             a lease, in {silent} of \
             {} validator-seconds, {} lost with their process or connection\n\
             {} deactivations: {} by acks, {} by wait-out; {} said committed and not yet enforced, {} of them waited on; {} of \
             unknown outcome; {} repeated with success at the other admin; {} activations\n\
             {} deactivations at an admin that was well, with its database ({} failed): the longest returned {longest:?} after \
             its commit (noise meanwhile {noise:?})\n\
             {} stale accepts, {} false rejects, {} steps back, {} overruns, {} answers without sense; processes that ended by \
             themselves: {}",
            self.verdicts(),
            self.verdicts() as u64 / seconds.max(1),
            n(&self.valid),
            n(&self.valid_amid),
            n(&self.refused),
            n(&self.refused_soon),
            n(&self.no_lease),
            seconds * VALIDATORS as u64,
            n(&self.lost),
            n(&self.deactivated),
            n(&self.by_acks),
            n(&self.by_wait_out),
            n(&self.not_yet),
            n(&self.waited_on),
            n(&self.unknown),
            n(&self.repeated),
            n(&self.activated),
            n(&self.judged),
            n(&self.judged_unknown),
            of(Violation::StaleAccept),
            of(Violation::FalseReject),
            of(Violation::TimeTravel),
            of(Violation::Overrun),
            of(Violation::Nonsense),
            n(&self.ended),
        )
    }

    /// What has not happened at all, though without it the run has shown nothing.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let needed = [
            ("a token accepted amid a deactivation", &self.valid_amid),
            ("a token refused soon after the return", &self.refused_soon),
            ("a validator without a lease", &self.no_lease),
            ("a deactivation by acks", &self.by_acks),
            ("a deactivation by wait-out", &self.by_wait_out),
            ("a deactivation not yet enforced", &self.not_yet),
            ("a wait for one of those", &self.waited_on),
            ("a deactivation of unknown outcome", &self.unknown),
            ("a deactivation repeated at the other admin", &self.repeated),
            ("an activation", &self.activated),
            ("a deactivation held to its time", &self.judged),
        ];
        needed.into_iter().filter(|(_, count)| count.get() == 0).map(|(what, _)| what).collect()
    }
}
