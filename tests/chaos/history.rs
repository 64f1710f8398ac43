//! The checker: what clients saw, on their own clock, against what was promised.
//!
//! It is one-sided. What may be explained by any order of overlapping calls is no violation, nor is silence: a call that
//! failed may have taken effect at any time, or never.

use std::time::{Duration, Instant};

use keyward_proto::validate::Verdict;

/// What was done to a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deed {
    Create,
    Deactivate,
    Activate,
}

/// A call that changes a key.
#[derive(Clone, Copy, Debug)]
struct Change {
    deed: Deed,
    invoked: Instant,
    /// It has taken effect before this; `None`: that is not known.
    ended: Option<Instant>,
    /// Its place in the log, as far as it is known.
    revision: Option<i64>,
    /// From here on it was said to be enforced.
    enforced: Option<Instant>,
}

/// What a validator said of a key's token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) revision: i64,
    pub(crate) invoked: Instant,
    pub(crate) returned: Instant,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// A token was accepted in a call that began after its key's end was said to be enforced; or at a revision at which
    /// the key is dead.
    StaleAccept,
    /// A token was refused whose key was active throughout the call.
    FalseReject,
    /// A validator answered from an older revision than it had before.
    TimeTravel,
    /// A deactivation took longer than was promised.
    Overrun,
    /// An answer about another key, or an error that no fault explains.
    Nonsense,
}

/// All calls that changed one key, few as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Change>);

impl Change {
    const fn widens(&self) -> bool {
        matches!(self.deed, Deed::Create | Deed::Activate)
    }

    /// Whether an answer must have come after it.
    fn is_behind(&self, answer: &Answer) -> bool {
        self.enforced.is_some_and(|at| at < answer.invoked)
            || self.revision.is_some_and(|revision| revision <= answer.revision)
    }

    /// Whether it may have taken effect after another one and before the answer.
    fn may_lie_between(&self, other: &Self, answer: &Answer) -> bool {
        self.invoked < answer.returned && self.ended.is_none_or(|ended| ended > other.invoked)
    }
}

impl History {
    /// Notes that a call begins; to be done before it is sent.
    pub(crate) fn begin(&mut self, deed: Deed, now: Instant) -> usize {
        self.0.push(Change { deed, invoked: now, ended: None, revision: None, enforced: None });
        self.0.len() - 1
    }

    /// Notes that its outcome has come: it is committed at `revision`.
    pub(crate) fn committed(&mut self, call: usize, revision: i64, now: Instant) {
        if let Some(change) = self.0.get_mut(call) {
            (change.ended, change.revision) = (Some(now), Some(revision));
        }
    }

    /// Notes that it was said to be enforced, by whichever call.
    pub(crate) fn enforced(&mut self, call: usize, now: Instant) {
        if let Some(change) = self.0.get_mut(call) {
            change.enforced.get_or_insert(now);
        }
    }

    /// Whether an answer can be right.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<(), Violation> {
        let accepted = answer.verdict == Verdict::Valid;
        let agrees = |change: &&Change| change.widens() == accepted;
        let explained = |by: &Change| self.0.iter().filter(agrees).any(|c| c.may_lie_between(by, answer));
        let contradicted = |change: &&Change| change.is_behind(answer) && !explained(change);
        match self.0.iter().filter(|change| !agrees(change)).any(|change| contradicted(&change)) {
            false => Ok(()),
            true if accepted => Err(Violation::StaleAccept),
            true => Err(Violation::FalseReject),
        }
    }

    /// Whether the question was asked within `time` after an end of the key was said to be enforced: where one that is not
    /// would show.
    pub(crate) fn is_soon_after_an_end(&self, answer: &Answer, time: Duration) -> bool {
        let since = |end: Instant| answer.invoked.checked_duration_since(end);
        let soon = |change: &Change| change.enforced.and_then(since).is_some_and(|since| since <= time);
        self.0.iter().any(|change| change.deed == Deed::Deactivate && soon(change))
    }

    /// Whether an answer fell between the begin of a deactivation and its return: where a lack of care would show.
    pub(crate) fn is_amid_a_deactivation(&self, answer: &Answer) -> bool {
        let amid = |change: &Change| {
            change.invoked < answer.invoked && change.enforced.is_none_or(|enforced| enforced > answer.returned)
        };
        self.0.iter().any(|change| change.deed == Deed::Deactivate && amid(change))
    }
}

/// How far a validator's process had come when a question was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) invoked: Instant,
    life: u64,
    floor: i64,
}

/// How far one process of a validator has come, as its clients know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    life: u64,
    newest: i64,
}

impl Progress {
    /// To be asked before a question is sent.
    pub(crate) const fn ask(&self, now: Instant) -> Asked {
        Asked { invoked: now, life: self.life, floor: self.newest }
    }

    /// Takes an answer. One that two lives may have given says nothing.
    pub(crate) fn hear(&mut self, asked: &Asked, revision: i64) -> Result<(), Violation> {
        if asked.life != self.life {
            return Ok(());
        }
        self.newest = self.newest.max(revision);
        if revision < asked.floor { Err(Violation::TimeTravel) } else { Ok(()) }
    }

    /// The process is dead, and the next one not yet begun.
    pub(crate) const fn next_life(&mut self) {
        *self = Self { life: self.life + 1, newest: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history whose clock is counted in milliseconds.
    struct Told {
        zero: Instant,
        history: History,
    }

    impl Told {
        /// A key that was created at revision 10, which was enforced by 100.
        fn new() -> Self {
            let mut told = Self { zero: Instant::now(), history: History::default() };
            told.tell(Deed::Create, 0, Some((100, 10)), Some(100));
            told
        }

        fn at(&self, millis: u64) -> Instant {
            self.zero + Duration::from_millis(millis)
        }

        /// A call that began at `invoked`, was committed by a moment at a revision, and enforced by another one.
        fn tell(&mut self, deed: Deed, invoked: u64, committed: Option<(u64, i64)>, enforced: Option<u64>) {
            let call = self.history.begin(deed, self.at(invoked));
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
    fn a_clean_history_passes() {
        let mut told = Told::new();
        // Before the creation is enforced a validator need not know of it.
        assert_eq!(told.judge(Verdict::Unknown, 9, 50, 120), Ok(()));
        assert_eq!(told.judge(Verdict::Valid, 10, 50, 60), Ok(()));
        told.tell(Deed::Deactivate, 200, Some((300, 11)), Some(300));
        // While it runs, either.
        assert_eq!(told.judge(Verdict::Valid, 10, 250, 260), Ok(()));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 250, 260), Ok(()));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 150, 201), Ok(()));
        // Asked before the return, answered long after it.
        assert_eq!(told.judge(Verdict::Valid, 10, 299, 9_000), Ok(()));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 301, 302), Ok(()));
        told.tell(Deed::Activate, 400, Some((450, 12)), Some(500));
        assert_eq!(told.judge(Verdict::Valid, 12, 401, 402), Ok(()));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 401, 402), Ok(()));
        // Committed, and not yet everywhere.
        assert_eq!(told.judge(Verdict::Deactivated, 11, 460, 470), Ok(()));
        assert_eq!(told.judge(Verdict::Valid, 12, 600, 601), Ok(()));
    }

    #[test]
    fn a_token_that_is_accepted_after_the_return_is_found() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, Some((300, 11)), Some(300));
        assert_eq!(told.judge(Verdict::Valid, 10, 301, 302), STALE);
        // An activation that was begun only after the answer does not explain it, one before the answer does.
        told.tell(Deed::Activate, 400, None, None);
        assert_eq!(told.judge(Verdict::Valid, 10, 301, 399), STALE);
        assert_eq!(told.judge(Verdict::Valid, 10, 301, 401), Ok(()));
    }

    #[test]
    fn an_activation_of_before_explains_nothing() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, Some((300, 11)), Some(300));
        told.tell(Deed::Activate, 400, Some((450, 12)), Some(450));
        told.tell(Deed::Deactivate, 500, Some((600, 13)), Some(600));
        assert_eq!(told.judge(Verdict::Valid, 12, 550, 551), Ok(()));
        assert_eq!(told.judge(Verdict::Valid, 12, 601, 602), STALE);
    }

    #[test]
    fn an_end_that_a_later_call_said_to_be_enforced_counts_from_there() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, Some((300, 11)), None);
        assert_eq!(told.judge(Verdict::Valid, 10, 301, 302), Ok(()), "committed, not yet enforced");
        told.history.enforced(1, told.at(400));
        assert_eq!(told.judge(Verdict::Valid, 10, 399, 402), Ok(()));
        assert_eq!(told.judge(Verdict::Valid, 10, 401, 402), STALE);
    }

    #[test]
    fn a_token_that_is_accepted_at_a_revision_at_which_it_is_dead_is_found() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, Some((300, 11)), None);
        assert_eq!(told.judge(Verdict::Valid, 11, 250, 260), STALE);
    }

    #[test]
    fn a_key_that_lives_and_is_refused_is_found() {
        let mut told = Told::new();
        assert_eq!(told.judge(Verdict::Unknown, 9, 101, 102), FALSE);
        assert_eq!(told.judge(Verdict::Unknown, 10, 50, 60), FALSE, "from a revision at which it is there");
        told.tell(Deed::Deactivate, 200, Some((300, 11)), Some(300));
        assert_eq!(told.judge(Verdict::Deactivated, 10, 150, 199), FALSE);
        told.tell(Deed::Activate, 400, Some((450, 12)), Some(450));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 451, 452), FALSE);
        assert_eq!(told.judge(Verdict::Malformed, 12, 451, 452), FALSE);
    }

    #[test]
    fn a_deactivation_of_unknown_outcome_may_come_at_any_time_and_accuses_nobody() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, None, None);
        assert_eq!(told.judge(Verdict::Valid, 10, 5_000, 5_001), Ok(()));
        assert_eq!(told.judge(Verdict::Deactivated, 11, 5_000, 5_001), Ok(()));
        told.tell(Deed::Activate, 6_000, Some((6_100, 12)), Some(6_100));
        assert_eq!(told.judge(Verdict::Deactivated, 13, 7_000, 7_001), Ok(()));
    }

    #[test]
    fn what_falls_into_a_deactivation_is_told_from_the_rest() {
        let mut told = Told::new();
        told.tell(Deed::Deactivate, 200, Some((300, 11)), Some(300));
        let amid = |from, to| told.history.is_amid_a_deactivation(&told.answer(Verdict::Valid, 10, from, to));
        assert_eq!((amid(150, 250), amid(201, 299), amid(250, 301), amid(301, 302)), (false, true, false, false));
        let soon = |from| {
            let answer = told.answer(Verdict::Deactivated, 11, from, from + 1);
            told.history.is_soon_after_an_end(&answer, Duration::from_millis(100))
        };
        assert_eq!((soon(299), soon(300), soon(400), soon(401)), (false, true, true, false));
    }

    #[test]
    fn a_validator_that_goes_back_is_found_unless_the_calls_overlap_or_it_is_another_life() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let (first, beside) = (progress.ask(now), progress.ask(now));
        assert_eq!(progress.hear(&first, 12), Ok(()));
        assert_eq!(progress.hear(&beside, 11), Ok(()), "it may have been answered first");
        let (after, late) = (progress.ask(now), progress.ask(now));
        assert_eq!(progress.hear(&after, 11), Err(Violation::TimeTravel));
        progress.next_life();
        assert_eq!(progress.hear(&late, 3), Ok(()), "by whichever life");
        let anew = progress.ask(now);
        assert_eq!(progress.hear(&anew, 5), Ok(()));
        let again = progress.ask(now);
        assert_eq!(progress.hear(&again, 4), Err(Violation::TimeTravel));
    }
}
