//! Holds a history against what Keyward guarantees.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_proto::validate::Verdict;
use keyward_protocol::Policy;

use crate::faults::Faults;
use crate::history::{Answer, Change, Done, History, Key, Kind, UNKNOWN_REVISION};
use crate::world::LEASE;

/// What a Deactivate may take besides the wait for leases: a scheduling quantum, as the guarantee says, and the way there and
/// back through the simulated network and to the database.
const SLACK: Duration = Duration::from_millis(50 + 50);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Breaches by kind, and what they were.
    pub(crate) breaches: Vec<(&'static str, String)>,
    /// Answers held against the guarantee.
    pub(crate) checked: u64,
    /// Of those the ones whose key's state at their revision is known.
    pub(crate) exact: u64,
    /// VALIDs while a Deactivate was under way.
    pub(crate) within: u64,
    /// Of those the ones asked for when some validator had already told the revision of the Deactivate: a lease from before
    /// it was in use, and the Deactivate waited.
    pub(crate) stale_lease: u64,
    /// Denials that the token's key deserved.
    pub(crate) denied: u64,
    pub(crate) deactivations: u64,
    pub(crate) wait_outs: u64,
    pub(crate) early_exits: u64,
    /// Deactivates that had to be in time.
    pub(crate) timed: u64,
    pub(crate) slowest: f64,
}

/// When revisions had been told by somebody, and so were committed.
struct Known(BTreeMap<i64, Duration>);

impl Known {
    fn from(history: &History) -> Self {
        let mut known: BTreeMap<i64, Duration> = BTreeMap::new();
        for answer in &history.answers {
            let at = known.entry(answer.revision).or_insert(answer.told);
            *at = answer.told.min(*at);
        }
        // Who tells a revision tells all before it.
        let mut earliest = Duration::MAX;
        for at in known.values_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
        Self(known)
    }

    fn since(&self, revision: i64) -> Duration {
        self.0.range(revision..).next().map_or(Duration::MAX, |(_, at)| *at)
    }
}

/// D'.
fn wait_out() -> Duration {
    Policy { lease: LEASE, ..Policy::default() }.wait_out()
}

pub(crate) fn check(history: &History, faults: &Faults) -> Report {
    let mut report = Report::default();
    let known = Known::from(history);
    for answer in &history.answers {
        report.look_at(answer, &history.keys[answer.key], &known);
    }
    report.look_for_time_travel(&history.answers);
    report.look_at_tries(history, faults);
    report
}

impl Report {
    /// How many breaches of that kind.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.breaches.iter().filter(|(found, _)| *found == kind).count() as u64
    }

    fn breach(&mut self, kind: &'static str, what: String) {
        self.breaches.push((kind, what));
    }

    fn look_at(&mut self, answer: &Answer, key: &Key, known: &Known) {
        self.checked += 1;
        match answer.verdict {
            Verdict::Valid => self.look_at_acceptance(answer, key, known),
            _ => self.look_at_denial(answer, key),
        }
        self.look_at_revision(answer, key);
    }

    /// G1: not valid after a Deactivate has returned, unless an Activate was begun since.
    fn look_at_acceptance(&mut self, answer: &Answer, key: &Key, known: &Known) {
        for (index, change) in key.changes.iter().enumerate().filter(|(_, change)| change.kind == Kind::Deactivate) {
            let next = key.changes.get(index + 1);
            let ended = change.done.map_or(Duration::MAX, |done| done.at);
            if ended < answer.asked && next.is_none_or(|next| next.begun > answer.told) {
                self.breach("stale accept", format!("{answer:?} of {}, after {change:?}", key.name));
            }
            if change.begun <= answer.asked && answer.told <= ended {
                self.within += 1;
                if change.done.is_some_and(|done| known.since(done.revision) < answer.asked) {
                    self.stale_lease += 1;
                }
            }
        }
    }

    /// G3: not denied after a Create or an Activate is enforced, unless a Deactivate was begun since.
    fn look_at_denial(&mut self, answer: &Answer, key: &Key) {
        self.denied += 1;
        for (index, change) in key.changes.iter().enumerate().filter(|(_, change)| change.kind != Kind::Deactivate) {
            let next = key.changes.get(index + 1);
            let Some(done) = change.done.filter(|done| done.enforced) else { continue };
            if done.at < answer.asked && next.is_none_or(|next| next.begun > answer.told) {
                self.breach("false reject", format!("{answer:?} of {}, after {change:?}", key.name));
            }
        }
    }

    /// An answer says what the key was at the revision that it names.
    fn look_at_revision(&mut self, answer: &Answer, key: &Key) {
        let Some(expected) = expected(&key.changes, answer.revision) else { return };
        self.exact += 1;
        if expected == answer.verdict {
            return;
        }
        let kind = if answer.verdict == Verdict::Valid { "stale accept" } else { "false reject" };
        self.breach(kind, format!("{answer:?} of {}, which was {expected:?} at that revision", key.name));
    }

    /// G4: what a validator has once told it does not fall back behind.
    fn look_for_time_travel(&mut self, answers: &[Answer]) {
        let mut by_life: BTreeMap<_, Vec<&Answer>> = BTreeMap::new();
        for answer in answers {
            by_life.entry((answer.validator, answer.life)).or_default().push(answer);
        }
        for answers in by_life.into_values() {
            let mut asked: Vec<_> = answers.clone();
            asked.sort_by_key(|answer| answer.asked);
            let mut told = answers;
            told.sort_by_key(|answer| answer.told);
            let (mut told, mut newest) = (told.into_iter().peekable(), 0);
            for answer in asked {
                while let Some(before) = told.next_if(|before| before.told < answer.asked) {
                    newest = newest.max(before.revision);
                }
                if answer.revision < newest {
                    self.breach("time travel", format!("{answer:?}, after {newest} had been told"));
                }
            }
        }
    }

    /// G2: a Deactivate returns in time if its admin and the database are there.
    fn look_at_tries(&mut self, history: &History, faults: &Faults) {
        for attempt in &history.tries {
            match attempt.waited_out {
                Some(true) => self.wait_outs += 1,
                Some(false) => self.early_exits += 1,
                None => {}
            }
            self.deactivations += u64::from(attempt.waited_out.is_some());
            let limit = (wait_out() + SLACK).as_secs_f64();
            let long_enough = attempt.patience.as_secs_f64() > 2.0 * limit;
            if !long_enough || !faults.was_whole(attempt.admin, attempt.begun, attempt.ended) {
                continue;
            }
            self.timed += 1;
            self.slowest = self.slowest.max(attempt.felt);
            if attempt.felt > limit || attempt.waited_out.is_none() {
                self.breach("overrun", format!("{attempt:?}"));
            }
        }
    }
}

/// What a key is at a revision; `None`: nobody knows, because a change may have been made that nobody has confirmed.
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
