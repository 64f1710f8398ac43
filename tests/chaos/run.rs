//! One run: the state that its tasks share, and the check of every answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::validate::{ValidateTokenResponse, Verdict};
use tonic::Status;
use tonic_types::StatusExt;

use crate::faults::{Disturbances, FaultCounts};
use crate::history::{Answer, Baseline, Progress, Violation};
use crate::keys::{KeyPool, TrackedKey};
use crate::monitor::{Commits, Noise};
use crate::schedule::VALIDATORS;
use crate::site::{Site, WAIT_OUT};
use crate::tally::Tally;

/// Tolerance beyond D' for the scheduling delays of a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// The longest time until the monitor sees a commit.
const SEEN: Duration = Duration::from_millis(500);

/// The state that the tasks share.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) begun: Instant,
    pub(crate) site: Site,
    pub(crate) keys: KeyPool,
    /// By validator.
    pub(crate) progress: [Mutex<Progress>; VALIDATORS],
    pub(crate) disturbances: Disturbances,
    pub(crate) fault_counts: FaultCounts,
    pub(crate) commits: Commits,
    pub(crate) noise: Noise,
    pub(crate) tally: Tally,
    over: AtomicBool,
}

/// The outcome of a `DeactivateKey` call for its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// OK, at that revision.
    Enforced(i64),
    /// Committed at that revision, not yet enforced.
    Committed(i64),
    /// The call failed, and it is unknown if the change was committed.
    Unknown,
    /// There was no response until long after the call's deadline.
    Hung,
}

/// A `DeactivateKey` as its caller saw it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) admin: usize,
    pub(crate) name: String,
    pub(crate) invoked: Instant,
    pub(crate) returned: Instant,
    pub(crate) outcome: Outcome,
}

/// Returns the reason of an error from Keyward, or `None` for an error of the connection.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

impl Run {
    pub(crate) fn new(seed: u64, site: Site, keys: KeyPool) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            site,
            keys,
            progress: Default::default(),
            disturbances: Disturbances::default(),
            fault_counts: FaultCounts::default(),
            commits: Commits::default(),
            noise: Noise::default(),
            tally: Tally::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Ends the run.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Returns the baseline for a request to a validator, which must be sent after this call.
    pub(crate) fn baseline(&self, validator: usize) -> Baseline {
        self.progress[validator].lock().unwrap().baseline(Instant::now())
    }

    /// Counts and checks a validator's response.
    pub(crate) fn record(
        &self,
        validator: usize,
        baseline: &Baseline,
        key: &TrackedKey,
        response: &ValidateTokenResponse,
    ) {
        let (verdict, revision) = (response.verdict(), response.revision);
        let answer = Answer { verdict, revision, invoked: baseline.invoked, returned: Instant::now() };
        let accepted = verdict == Verdict::Valid;
        if accepted {
            self.tally.valid.one();
        } else {
            self.tally.refused.one();
        }
        let moved = self.progress[validator].lock().unwrap().observe(baseline, revision);
        let history = key.history.lock().unwrap();
        if accepted && history.is_during_a_deactivation(&answer) {
            self.tally.valid_during.one();
        }
        if !accepted && history.is_soon_after_a_deactivation(&answer, WAIT_OUT) {
            self.tally.refused_soon.one();
        }
        let matches = response.key == key.name || matches!(verdict, Verdict::Unknown | Verdict::Malformed);
        let valid = if matches && verdict != Verdict::Unspecified { Ok(()) } else { Err(Violation::InvalidAnswer) };
        for violation in [moved, history.judge(&answer), valid].into_iter().filter_map(Result::err) {
            self.tally.violation(violation, || {
                format!(
                    "v{validator} answered {response:?} for {}, sent at {:?}, received at {:?}; {baseline:?}, {history:?}",
                    key.name,
                    self.since(answer.invoked),
                    self.since(answer.returned)
                )
            });
        }
    }

    /// Records that there was no verdict. `reason` is the validator's, if there was an error from it.
    pub(crate) fn no_verdict(&self, validator: usize, reason: Option<&str>) {
        match reason {
            Some("NO_LEASE") => self.tally.no_lease_at(validator, self.begun.elapsed().as_secs()),
            Some(other) => {
                self.tally.violation(Violation::InvalidAnswer, || format!("v{validator} failed with {other}"));
            }
            None => self.tally.lost.one(),
        }
    }

    /// Records an error of an admin. Only errors that faults can cause are allowed.
    pub(crate) fn failed(&self, admin: usize, what: &str, status: &Status) {
        let details = || format!("a{admin} at {:?}: {what}: {status:?}", self.begun.elapsed());
        match reason(status).as_deref() {
            None | Some("NOT_YET_ENFORCED" | "STORE_UNAVAILABLE") => {}
            Some(_) => self.tally.violation(Violation::InvalidAnswer, details),
        }
    }

    /// Checks the duration of a deactivation: once committed, it must return within D' and the tolerance, unless a
    /// fault affected the called admin or its database. Waits until the monitor has seen the commit.
    pub(crate) async fn check_duration(&self, call: Call) {
        tokio::time::sleep(SEEN).await;
        if self.disturbances.overlaps(call.admin, call.invoked, call.returned) {
            return;
        }
        self.tally.judged.one();
        let revision = match call.outcome {
            Outcome::Enforced(revision) | Outcome::Committed(revision) => revision,
            Outcome::Unknown => return self.tally.judged_unknown.one(),
            Outcome::Hung => return self.report_overrun(&call, call.returned.duration_since(call.invoked)),
        };
        let Some(committed) = self.commits.committed_by(revision) else { return };
        // A repeated call waits for a change that may have been committed long before.
        let took = call.returned.saturating_duration_since(committed.max(call.invoked));
        let noise = self.noise.between(call.invoked, call.returned);
        self.tally.record_duration(took, noise);
        // The caller is a task of this process, so its own delays must not count.
        if took > WAIT_OUT + SLACK + noise {
            self.report_overrun(&call, took);
        }
    }

    fn report_overrun(&self, call: &Call, took: Duration) {
        self.tally.violation(Violation::Overrun, || {
            format!(
                "{took:?} for {} at a{}: {:?}, from {:?} to {:?}",
                call.name,
                call.admin,
                call.outcome,
                self.since(call.invoked),
                self.since(call.returned)
            )
        });
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }
}
