//! Compares a history with the guarantee.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_proto::validate::Verdict;
use keyward_protocol::Policy;

use crate::faults::Faults;
use crate::history::{Answer, Change, Done, History, Key, Kind, UNKNOWN_REVISION};
use crate::world::LEASE;

/// Tolerance of a Deactivate beyond the wait for leases: a scheduling quantum, as the guarantee allows, and the latency
/// of the simulated network and of the database.
const SLACK: Duration = Duration::from_millis(50 + 50);

/// The result of the check.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Breaches: kind and details.
    pub(crate) breaches: Vec<(&'static str, String)>,
    /// Answers that were checked.
    pub(crate) checked: u64,
    /// Answers of `checked` for which the key's state at the answer's revision is known.
    pub(crate) exact: u64,
    /// VALID answers during a Deactivate.
    pub(crate) within: u64,
    /// Answers of `within` that were sent when another answer already had the revision of the Deactivate. A lease from
    /// before the commit was in use, and the Deactivate waited for it.
    pub(crate) stale_lease: u64,
    /// Denials that the key's state allows.
    pub(crate) denied: u64,
    pub(crate) deactivations: u64,
    pub(crate) wait_outs: u64,
    pub(crate) early_exits: u64,
    /// Deactivates whose duration was checked.
    pub(crate) timed: u64,
    pub(crate) slowest: f64,
}

/// For each revision, the earliest time at which an answer had it, which proves that it was committed.
struct CommitTimes(BTreeMap<i64, Duration>);

impl CommitTimes {
    fn from(history: &History) -> Self {
        let mut commit_times: BTreeMap<i64, Duration> = BTreeMap::new();
        for answer in &history.answers {
            let at = commit_times.entry(answer.revision).or_insert(answer.received);
            *at = answer.received.min(*at);
        }
        // A revision proves that all earlier ones are committed.
        let mut earliest = Duration::MAX;
        for at in commit_times.values_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
        Self(commit_times)
    }

    fn committed_by(&self, revision: i64) -> Duration {
        self.0.range(revision..).next().map_or(Duration::MAX, |(_, at)| *at)
    }
}

/// The wait-out time D'.
fn wait_out() -> Duration {
    Policy { lease: LEASE, ..Policy::default() }.wait_out()
}

pub(crate) fn check(history: &History, faults: &Faults) -> Report {
    let mut report = Report::default();
    let commit_times = CommitTimes::from(history);
    for answer in &history.answers {
        report.check_answer(answer, &history.keys[answer.key], &commit_times);
    }
    report.check_order(&history.answers);
    report.check_durations(history, faults);
    report
}

impl Report {
    /// Returns the number of breaches of that kind.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.breaches.iter().filter(|(found, _)| *found == kind).count() as u64
    }

    fn breach(&mut self, kind: &'static str, what: String) {
        self.breaches.push((kind, what));
    }

    fn check_answer(&mut self, answer: &Answer, key: &Key, commit_times: &CommitTimes) {
        self.checked += 1;
        match answer.verdict {
            Verdict::Valid => self.check_acceptance(answer, key, commit_times),
            _ => self.check_denial(answer, key),
        }
        self.check_state_at_revision(answer, key);
    }

    /// G1: no VALID after a Deactivate has returned, unless an Activate has begun since.
    fn check_acceptance(&mut self, answer: &Answer, key: &Key, commit_times: &CommitTimes) {
        for (index, change) in key.changes.iter().enumerate().filter(|(_, change)| change.kind == Kind::Deactivate) {
            let next = key.changes.get(index + 1);
            let ended = change.done.map_or(Duration::MAX, |done| done.at);
            if ended < answer.sent && next.is_none_or(|next| next.begun > answer.received) {
                self.breach("stale accept", format!("{answer:?} of {}, after {change:?}", key.name));
            }
            if change.begun <= answer.sent && answer.received <= ended {
                self.within += 1;
                if change.done.is_some_and(|done| commit_times.committed_by(done.revision) < answer.sent) {
                    self.stale_lease += 1;
                }
            }
        }
    }

    /// G3: no denial after a Create or an Activate is enforced, unless a Deactivate has begun since.
    fn check_denial(&mut self, answer: &Answer, key: &Key) {
        self.denied += 1;
        for (index, change) in key.changes.iter().enumerate().filter(|(_, change)| change.kind != Kind::Deactivate) {
            let next = key.changes.get(index + 1);
            let Some(done) = change.done.filter(|done| done.enforced) else { continue };
            if done.at < answer.sent && next.is_none_or(|next| next.begun > answer.received) {
                self.breach("false reject", format!("{answer:?} of {}, after {change:?}", key.name));
            }
        }
    }

    /// An answer must match the key's state at the answer's revision.
    fn check_state_at_revision(&mut self, answer: &Answer, key: &Key) {
        let Some(expected) = expected(&key.changes, answer.revision) else { return };
        self.exact += 1;
        if expected == answer.verdict {
            return;
        }
        let kind = if answer.verdict == Verdict::Valid { "stale accept" } else { "false reject" };
        self.breach(kind, format!("{answer:?} of {}, which was {expected:?} at that revision", key.name));
    }

    /// G4: a validator never answers from an older revision than it has answered from before.
    fn check_order(&mut self, answers: &[Answer]) {
        let mut by_life: BTreeMap<_, Vec<&Answer>> = BTreeMap::new();
        for answer in answers {
            by_life.entry((answer.validator, answer.life)).or_default().push(answer);
        }
        for answers in by_life.into_values() {
            let mut by_sent: Vec<_> = answers.clone();
            by_sent.sort_by_key(|answer| answer.sent);
            let mut by_received = answers;
            by_received.sort_by_key(|answer| answer.received);
            let (mut by_received, mut newest) = (by_received.into_iter().peekable(), 0);
            for answer in by_sent {
                while let Some(before) = by_received.next_if(|before| before.received < answer.sent) {
                    newest = newest.max(before.revision);
                }
                if answer.revision < newest {
                    self.breach("time travel", format!("{answer:?}, after {newest} had been received"));
                }
            }
        }
    }

    /// G2: a Deactivate returns in time while its admin and the database have no faults.
    fn check_durations(&mut self, history: &History, faults: &Faults) {
        for attempt in &history.attempts {
            match attempt.waited_out {
                Some(true) => self.wait_outs += 1,
                Some(false) => self.early_exits += 1,
                None => {}
            }
            self.deactivations += u64::from(attempt.waited_out.is_some());
            let limit = (wait_out() + SLACK).as_secs_f64();
            let long_enough = attempt.patience.as_secs_f64() > 2.0 * limit;
            if !long_enough || !faults.was_healthy(attempt.admin, attempt.begun, attempt.ended) {
                continue;
            }
            self.timed += 1;
            self.slowest = self.slowest.max(attempt.elapsed);
            if attempt.elapsed > limit || attempt.waited_out.is_none() {
                self.breach("overrun", format!("{attempt:?}"));
            }
        }
    }
}

/// Returns the verdict on a key at a revision, or `None` if it is unknown, because the outcome of a change is.
fn expected(changes: &[Change], revision: i64) -> Option<Verdict> {
    let mut verdict = Verdict::Unknown;
    for change in changes {
        let Done { revision: at, .. } = change.done?;
        if at == UNKNOWN_REVISION {
            return None;
        }
        if at > revision {
            return Some(verdict);
        }
        verdict = if change.kind == Kind::Deactivate { Verdict::Deactivated } else { Verdict::Valid };
    }
    Some(verdict)
}
