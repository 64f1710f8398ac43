//! The checker: compares what clients observed, on their own clock, with the guarantee.
//!
//! It has no false alarms. An observation that some order of overlapping calls explains is no violation, and neither is
//! a missing response: a call that failed may have taken effect at any time, or never.

use std::time::{Duration, Instant};

use keyward_proto::validate::Verdict;

/// A kind of change of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Create,
    Deactivate,
    Activate,
}

/// A call that changes a key.
#[derive(Clone, Copy, Debug)]
struct Change {
    kind: Kind,
    invoked: Instant,
    /// The change has taken effect before this time. `None` if the outcome is unknown.
    ended: Option<Instant>,
    /// Its revision, if it is known.
    revision: Option<i64>,
    /// When the caller learned that it is enforced.
    enforced: Option<Instant>,
}

/// A validator's response for a key's token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) revision: i64,
    pub(crate) invoked: Instant,
    pub(crate) returned: Instant,
}

/// A violation of the guarantee.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// A token was accepted in a call that began after its key's deactivation was enforced, or at a revision at which
    /// the key is deactivated.
    StaleAccept,
    /// A token was refused although its key was active during the whole call.
    FalseReject,
    /// A validator answered from an older revision than before.
    TimeTravel,
    /// A deactivation took longer than guaranteed.
    Overrun,
    /// A response about another key, or an error that no fault explains.
    InvalidAnswer,
}

/// All changes of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Change>);

impl Change {
    const fn is_grant(&self) -> bool {
        matches!(self.kind, Kind::Create | Kind::Activate)
    }

    /// Returns `true` if the answer must reflect this change.
    fn must_precede(&self, answer: &Answer) -> bool {
        self.enforced.is_some_and(|at| at < answer.invoked)
            || self.revision.is_some_and(|revision| revision <= answer.revision)
    }

    /// Returns `true` if this change may have taken effect after `other` and before the answer.
    fn may_lie_between(&self, other: &Self, answer: &Answer) -> bool {
        self.invoked < answer.returned && self.ended.is_none_or(|ended| ended > other.invoked)
    }
}

impl History {
    /// Records that a call begins, before it is sent.
    pub(crate) fn begin(&mut self, kind: Kind, now: Instant) -> usize {
        self.0.push(Change { kind, invoked: now, ended: None, revision: None, enforced: None });
        self.0.len() - 1
    }

    /// Records that the call is committed at `revision`.
    pub(crate) fn committed(&mut self, call: usize, revision: i64, now: Instant) {
        if let Some(change) = self.0.get_mut(call) {
            (change.ended, change.revision) = (Some(now), Some(revision));
        }
    }

    /// Records that the call is enforced, as this call or a later one reported.
    pub(crate) fn enforced(&mut self, call: usize, now: Instant) {
        if let Some(change) = self.0.get_mut(call) {
            change.enforced.get_or_insert(now);
        }
    }

    /// Returns an error if no order of the changes explains the answer.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<(), Violation> {
        let accepted = answer.verdict == Verdict::Valid;
        let agrees = |change: &&Change| change.is_grant() == accepted;
        let explained = |by: &Change| self.0.iter().filter(agrees).any(|c| c.may_lie_between(by, answer));
        let contradicted = |change: &&Change| change.must_precede(answer) && !explained(change);
        match self.0.iter().filter(|change| !agrees(change)).any(|change| contradicted(&change)) {
            false => Ok(()),
            true if accepted => Err(Violation::StaleAccept),
            true => Err(Violation::FalseReject),
        }
    }

    /// Returns `true` if the request was sent within `time` after a deactivation of the key was enforced. A
    /// deactivation that was reported too early would show there.
    pub(crate) fn is_soon_after_a_deactivation(&self, answer: &Answer, time: Duration) -> bool {
        let since = |end: Instant| answer.invoked.checked_duration_since(end);
        let soon = |change: &Change| change.enforced.and_then(since).is_some_and(|since| since <= time);
        self.0.iter().any(|change| change.kind == Kind::Deactivate && soon(change))
    }

    /// Returns `true` if the whole validation took place during a deactivation. A missing fence would show there.
    pub(crate) fn is_during_a_deactivation(&self, answer: &Answer) -> bool {
        let during = |change: &Change| {
            change.invoked < answer.invoked && change.enforced.is_none_or(|enforced| enforced > answer.returned)
        };
        self.0.iter().any(|change| change.kind == Kind::Deactivate && during(change))
    }
}

/// What was known of a validator's process when a request was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    pub(crate) invoked: Instant,
    life: u64,
    floor: i64,
}

/// The newest revision that clients have seen from one process of a validator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    life: u64,
    newest: i64,
}

impl Progress {
    /// Returns the baseline for a request, which must be sent after this call.
    pub(crate) const fn baseline(&self, now: Instant) -> Baseline {
        Baseline { invoked: now, life: self.life, floor: self.newest }
    }

    /// Records an answer. If the validator was restarted in between, the answer is not checked.
    pub(crate) fn observe(&mut self, baseline: &Baseline, revision: i64) -> Result<(), Violation> {
        if baseline.life != self.life {
            return Ok(());
        }
        self.newest = self.newest.max(revision);
        if revision < baseline.floor { Err(Violation::TimeTravel) } else { Ok(()) }
    }

    /// Records that the process is dead, before the next one starts.
    pub(crate) const fn next_life(&mut self) {
        *self = Self { life: self.life + 1, newest: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history whose times are milliseconds.
    struct Scenario {
        zero: Instant,
        history: History,
    }

    impl Scenario {
        /// Returns the history of a key that was created at revision 10, which was enforced at 100 ms.
        fn new() -> Self {
            let mut scenario = Self { zero: Instant::now(), history: History::default() };
            scenario.change(Kind::Create, 0, Some((100, 10)), Some(100));
            scenario
        }

        fn at(&self, millis: u64) -> Instant {
            self.zero + Duration::from_millis(millis)
        }

        /// Adds a call that began at `invoked`, with the time and revision of its commit and the time of its
        /// enforcement, if any.
        fn change(&mut self, kind: Kind, invoked: u64, committed: Option<(u64, i64)>, enforced: Option<u64>) {
            let call = self.history.begin(kind, self.at(invoked));
            if let Some((at, revision)) = committed {
                self.history.committed(call, revision, self.at(at));
            }
            if let Some(at) = enforced {
                self.history.enforced(call, self.at(at));
            }
        }

        fn answer(&self, verdict: Verdict, revision: i64, invoked: u64, returned: u64) -> Answer {
            Answer { verdict, revision, invoked: self.at(invoked), returned: self.at(returned) }
        }

        fn judge(&self, verdict: Verdict, revision: i64, invoked: u64, returned: u64) -> Result<(), Violation> {
            self.history.judge(&self.answer(verdict, revision, invoked, returned))
        }
    }

    const STALE: Result<(), Violation> = Err(Violation::StaleAccept);
    const FALSE: Result<(), Violation> = Err(Violation::FalseReject);

    #[test]
    fn a_correct_history_passes() {
        let mut scenario = Scenario::new();
        // Before its creation is enforced, a validator may not know the key.
        assert_eq!(scenario.judge(Verdict::Unknown, 9, 50, 120), Ok(()));
        assert_eq!(scenario.judge(Verdict::Valid, 10, 50, 60), Ok(()));
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), Some(300));
        // During the deactivation, both verdicts are allowed.
        assert_eq!(scenario.judge(Verdict::Valid, 10, 250, 260), Ok(()));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 250, 260), Ok(()));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 150, 201), Ok(()));
        // Sent before the deactivation returned, answered long after it.
        assert_eq!(scenario.judge(Verdict::Valid, 10, 299, 9_000), Ok(()));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 301, 302), Ok(()));
        scenario.change(Kind::Activate, 400, Some((450, 12)), Some(500));
        assert_eq!(scenario.judge(Verdict::Valid, 12, 401, 402), Ok(()));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 401, 402), Ok(()));
        // The activation is committed, and not yet enforced.
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 460, 470), Ok(()));
        assert_eq!(scenario.judge(Verdict::Valid, 12, 600, 601), Ok(()));
    }

    #[test]
    fn an_accept_after_an_enforced_deactivation_is_a_violation() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), Some(300));
        assert_eq!(scenario.judge(Verdict::Valid, 10, 301, 302), STALE);
        // An activation explains the answer only if it began before the answer.
        scenario.change(Kind::Activate, 400, None, None);
        assert_eq!(scenario.judge(Verdict::Valid, 10, 301, 399), STALE);
        assert_eq!(scenario.judge(Verdict::Valid, 10, 301, 401), Ok(()));
    }

    #[test]
    fn an_activation_before_the_deactivation_does_not_explain_an_accept() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), Some(300));
        scenario.change(Kind::Activate, 400, Some((450, 12)), Some(450));
        scenario.change(Kind::Deactivate, 500, Some((600, 13)), Some(600));
        assert_eq!(scenario.judge(Verdict::Valid, 12, 550, 551), Ok(()));
        assert_eq!(scenario.judge(Verdict::Valid, 12, 601, 602), STALE);
    }

    #[test]
    fn a_deactivation_counts_from_the_call_that_reported_it_enforced() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), None);
        assert_eq!(scenario.judge(Verdict::Valid, 10, 301, 302), Ok(()), "committed, not yet enforced");
        scenario.history.enforced(1, scenario.at(400));
        assert_eq!(scenario.judge(Verdict::Valid, 10, 399, 402), Ok(()));
        assert_eq!(scenario.judge(Verdict::Valid, 10, 401, 402), STALE);
    }

    #[test]
    fn an_accept_at_a_revision_with_the_key_deactivated_is_a_violation() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), None);
        assert_eq!(scenario.judge(Verdict::Valid, 11, 250, 260), STALE);
    }

    #[test]
    fn a_refusal_of_an_active_key_is_a_violation() {
        let mut scenario = Scenario::new();
        assert_eq!(scenario.judge(Verdict::Unknown, 9, 101, 102), FALSE);
        assert_eq!(scenario.judge(Verdict::Unknown, 10, 50, 60), FALSE, "at a revision at which the key exists");
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), Some(300));
        assert_eq!(scenario.judge(Verdict::Deactivated, 10, 150, 199), FALSE);
        scenario.change(Kind::Activate, 400, Some((450, 12)), Some(450));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 451, 452), FALSE);
        assert_eq!(scenario.judge(Verdict::Malformed, 12, 451, 452), FALSE);
    }

    #[test]
    fn a_deactivation_of_unknown_outcome_may_take_effect_at_any_time() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, None, None);
        assert_eq!(scenario.judge(Verdict::Valid, 10, 5_000, 5_001), Ok(()));
        assert_eq!(scenario.judge(Verdict::Deactivated, 11, 5_000, 5_001), Ok(()));
        scenario.change(Kind::Activate, 6_000, Some((6_100, 12)), Some(6_100));
        assert_eq!(scenario.judge(Verdict::Deactivated, 13, 7_000, 7_001), Ok(()));
    }

    #[test]
    fn answers_during_and_soon_after_a_deactivation_are_recognized() {
        let mut scenario = Scenario::new();
        scenario.change(Kind::Deactivate, 200, Some((300, 11)), Some(300));
        let during =
            |from, to| scenario.history.is_during_a_deactivation(&scenario.answer(Verdict::Valid, 10, from, to));
        assert_eq!(
            (during(150, 250), during(201, 299), during(250, 301), during(301, 302)),
            (false, true, false, false)
        );
        let soon = |from| {
            let answer = scenario.answer(Verdict::Deactivated, 11, from, from + 1);
            scenario.history.is_soon_after_a_deactivation(&answer, Duration::from_millis(100))
        };
        assert_eq!((soon(299), soon(300), soon(400), soon(401)), (false, true, true, false));
    }

    #[test]
    fn a_validator_that_goes_back_is_a_violation_unless_calls_overlap_or_it_was_restarted() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let (first, overlapping) = (progress.baseline(now), progress.baseline(now));
        assert_eq!(progress.observe(&first, 12), Ok(()));
        assert_eq!(progress.observe(&overlapping, 11), Ok(()), "it may have been answered first");
        let (after, late) = (progress.baseline(now), progress.baseline(now));
        assert_eq!(progress.observe(&after, 11), Err(Violation::TimeTravel));
        progress.next_life();
        assert_eq!(progress.observe(&late, 3), Ok(()), "either process may have answered");
        let restarted = progress.baseline(now);
        assert_eq!(progress.observe(&restarted, 5), Ok(()));
        let again = progress.baseline(now);
        assert_eq!(progress.observe(&again, 4), Err(Violation::TimeTravel));
    }
}
