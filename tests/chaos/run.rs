//! One run: what its tasks share, and where every answer is judged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::validate::{ValidateTokenResponse, Verdict};
use tonic::Status;
use tonic_types::StatusExt;

use crate::crowd::{Crowd, Subject};
use crate::faults::{Disturbances, Done};
use crate::history::{Answer, Asked, Progress, Violation};
use crate::schedule::VALIDATORS;
use crate::site::{Site, WAIT_OUT};
use crate::tally::Tally;
use crate::witness::{Commits, Noise};

/// What is allowed beyond D' for scheduling, on a machine that runs everything at once.
const SLACK: Duration = Duration::from_secs(1);

/// How long a commit may take to be seen by the one who looks on.
const SEEN: Duration = Duration::from_millis(500);

/// What the tasks share.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) begun: Instant,
    pub(crate) site: Site,
    pub(crate) crowd: Crowd,
    /// By validator.
    pub(crate) progress: [Mutex<Progress>; VALIDATORS],
    pub(crate) disturbances: Disturbances,
    pub(crate) done: Done,
    pub(crate) commits: Commits,
    pub(crate) noise: Noise,
    pub(crate) tally: Tally,
    over: AtomicBool,
}

/// How a `DeactivateKey` ended, for its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// OK, at that revision.
    Enforced(i64),
    /// Committed at that revision, not yet enforced.
    Committed(i64),
    /// Nothing is known.
    Unknown,
    /// There was no answer, long after the deadline that the call had.
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

/// The reason that an error of Keyward's carries; `None`: it is the connection's.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

impl Run {
    pub(crate) fn new(seed: u64, site: Site, crowd: Crowd) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            site,
            crowd,
            progress: Default::default(),
            disturbances: Disturbances::default(),
            done: Done::default(),
            commits: Commits::default(),
            noise: Noise::default(),
            tally: Tally::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Ends the load.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// To be called before a validator is asked.
    pub(crate) fn ask(&self, validator: usize) -> Asked {
        self.progress[validator].lock().unwrap().ask(Instant::now())
    }

    /// Judges what a validator said.
    pub(crate) fn hear(&self, validator: usize, asked: &Asked, subject: &Subject, said: &ValidateTokenResponse) {
        let (verdict, revision) = (said.verdict(), said.revision);
        let answer = Answer { verdict, revision, invoked: asked.invoked, returned: Instant::now() };
        let accepted = verdict == Verdict::Valid;
        if accepted {
            self.tally.valid.one();
        } else {
            self.tally.refused.one();
        }
        let moved = self.progress[validator].lock().unwrap().hear(asked, revision);
        let history = subject.history.lock().unwrap();
        if accepted && history.is_amid_a_deactivation(&answer) {
            self.tally.valid_amid.one();
        }
        if !accepted && history.is_soon_after_an_end(&answer, WAIT_OUT) {
            self.tally.refused_soon.one();
        }
        let of_it = said.key == subject.name || matches!(verdict, Verdict::Unknown | Verdict::Malformed);
        let sense = if of_it && verdict != Verdict::Unspecified { Ok(()) } else { Err(Violation::Nonsense) };
        for violation in [moved, history.judge(&answer), sense].into_iter().filter_map(Result::err) {
            self.tally.violation(violation, || {
                format!(
                    "v{validator} said {said:?} of {}, asked at {:?}, answered at {:?}; {asked:?}, {history:?}",
                    subject.name,
                    self.since(answer.invoked),
                    self.since(answer.returned)
                )
            });
        }
    }

    /// Notes that there was no verdict; `reason` as the validator gave it, if it did.
    pub(crate) fn no_verdict(&self, validator: usize, reason: Option<&str>) {
        match reason {
            Some("NO_LEASE") => self.tally.silent_in(validator, self.begun.elapsed().as_secs()),
            Some(other) => self.tally.violation(Violation::Nonsense, || format!("v{validator} failed with {other}")),
            None => self.tally.lost.one(),
        }
    }

    /// Notes an error of an admin's. Faults are all that can have caused it.
    pub(crate) fn failed(&self, admin: usize, what: &str, status: &Status) {
        let told = || format!("a{admin} at {:?}: {what}: {status:?}", self.begun.elapsed());
        match reason(status).as_deref() {
            None | Some("NOT_YET_ENFORCED" | "STORE_UNAVAILABLE") => {}
            Some(_) => self.tally.violation(Violation::Nonsense, told),
        }
    }

    /// Holds a deactivation to its time: once committed it returns within D' and a moment, as long as the admin that was
    /// called and its database are up. Waits until its commit must have been seen.
    pub(crate) async fn hold_to_its_time(&self, call: Call) {
        tokio::time::sleep(SEEN).await;
        if self.disturbances.touch(call.admin, call.invoked, call.returned) {
            return;
        }
        self.tally.judged.one();
        let revision = match call.outcome {
            Outcome::Enforced(revision) | Outcome::Committed(revision) => revision,
            Outcome::Unknown => return self.tally.judged_unknown.one(),
            Outcome::Hung => return self.overran(&call, call.returned.duration_since(call.invoked)),
        };
        let Some(committed) = self.commits.committed_by(revision) else { return };
        // A repeated one waits on for what was committed long before.
        let took = call.returned.saturating_duration_since(committed.max(call.invoked));
        let noise = self.noise.between(call.invoked, call.returned);
        self.tally.took(took, noise);
        // The caller is a task of this very process: what keeps it waiting is not the server's.
        if took > WAIT_OUT + SLACK + noise {
            self.overran(&call, took);
        }
    }

    fn overran(&self, call: &Call, took: Duration) {
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
