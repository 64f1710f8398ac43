//! The counters of a run, and those that must not be zero.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::history::Violation;
use crate::schedule::VALIDATORS;

/// How many violations are reported.
const REPORTED: usize = 20;

/// A counter that many tasks share.
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

/// All counters of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) valid: Count,
    /// Answers of `valid` that were sent and received during a deactivation of their key.
    pub(crate) valid_during: Count,
    pub(crate) refused: Count,
    /// Answers of `refused` that were sent within D' after a deactivation of their key returned.
    pub(crate) refused_soon: Count,
    /// Validations that a validator refused for lack of a lease.
    pub(crate) no_lease: Count,
    /// Validations without any response.
    pub(crate) lost: Count,
    pub(crate) deactivated: Count,
    pub(crate) by_acks: Count,
    pub(crate) by_wait_out: Count,
    /// Deactivations that returned committed, but not yet enforced.
    pub(crate) not_yet: Count,
    /// Deactivations of `not_yet` that WaitEnforced or GetKey later showed as enforced.
    pub(crate) waited_on: Count,
    /// Deactivations whose outcome is unknown to the caller.
    pub(crate) unknown: Count,
    /// Deactivations of `unknown` or `not_yet` that were repeated successfully at the other admin.
    pub(crate) repeated: Count,
    pub(crate) activated: Count,
    /// Deactivations whose duration was checked.
    pub(crate) judged: Count,
    /// Deactivations of `judged` that failed, with no known commit.
    pub(crate) judged_unknown: Count,
    /// Processes that ended without a fault, and were started again.
    pub(crate) ended: Count,
    longest: Mutex<(Duration, Duration)>,
    without_lease: Mutex<BTreeSet<(usize, u64)>>,
    violations: Mutex<Vec<(Violation, String)>>,
    pub(crate) violated: Notify,
}

impl Tally {
    /// Records that a validator had no lease in that second of the run.
    pub(crate) fn no_lease_at(&self, validator: usize, second: u64) {
        self.no_lease.one();
        self.without_lease.lock().unwrap().insert((validator, second));
    }

    /// Records how long after its commit a deactivation returned, and the noise of the machine in that time.
    pub(crate) fn record_duration(&self, time: Duration, noise: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = (*longest).max((time, noise));
    }

    /// Records a violation, and ends the run.
    pub(crate) fn violation(&self, what: Violation, details: impl FnOnce() -> String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < REPORTED {
            violations.push((what, details()));
        }
        self.violated.notify_one();
    }

    /// Returns the violations so far.
    pub(crate) fn violations(&self) -> Vec<(Violation, String)> {
        self.violations.lock().unwrap().clone()
    }

    /// Returns the number of validations with a verdict.
    pub(crate) fn verdicts(&self) -> usize {
        self.valid.get() + self.refused.get()
    }

    /// Returns the figures of a run of that many seconds.
    pub(crate) fn figures(&self, seconds: u64) -> String {
        let violations = self.violations();
        let of = |kind| violations.iter().filter(|(what, _)| *what == kind).count();
        let ((longest, noise), without_lease) =
            (*self.longest.lock().unwrap(), self.without_lease.lock().unwrap().len());
        let n = Count::get;
        format!(
            "{} validations, {}/s: {} valid ({} during a deactivation of their key), {} refused ({} sent within D' after the return); {} without \
             a lease, in {without_lease} of \
             {} validator-seconds, {} lost with their process or connection\n\
             {} deactivations: {} by acks, {} by wait-out; {} committed and not yet enforced, {} of them later shown as enforced; {} of \
             unknown outcome; {} repeated with success at the other admin; {} activations\n\
             {} deactivations at an admin without a fault ({} failed): the longest returned {longest:?} after \
             its commit (noise meanwhile {noise:?})\n\
             {} stale accepts, {} false rejects, {} steps back, {} overruns, {} invalid answers; processes that ended without \
             a fault: {}",
            self.verdicts(),
            self.verdicts() as u64 / seconds.max(1),
            n(&self.valid),
            n(&self.valid_during),
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
            of(Violation::InvalidAnswer),
            n(&self.ended),
        )
    }

    /// Returns the events that have not occurred, although the run shows nothing without them.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let needed = [
            ("a token accepted during a deactivation", &self.valid_during),
            ("a token refused soon after the return", &self.refused_soon),
            ("a validator without a lease", &self.no_lease),
            ("a deactivation by acks", &self.by_acks),
            ("a deactivation by wait-out", &self.by_wait_out),
            ("a deactivation not yet enforced", &self.not_yet),
            ("a wait until such a deactivation is enforced", &self.waited_on),
            ("a deactivation of unknown outcome", &self.unknown),
            ("a deactivation repeated at the other admin", &self.repeated),
            ("an activation", &self.activated),
            ("a deactivation whose duration was checked", &self.judged),
        ];
        needed.into_iter().filter(|(_, count)| count.get() == 0).map(|(what, _)| what).collect()
    }
}
