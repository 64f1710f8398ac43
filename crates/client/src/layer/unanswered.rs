use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::validation::Unavailable;

/// Shortest interval between two log lines, so that an outage does not flood the log.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts the requests that were refused because there was no verdict, and logs them.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    since: u64,
}

impl Unanswered {
    /// Counts a request. Logs the count since the last line, at most once per interval.
    pub(super) fn note(&self, cause: Unavailable) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.logged.is_none_or(|at| at.elapsed() >= INTERVAL) {
            tracing::warn!(requests = state.since, %cause, "refused requests without a verdict");
            *state = State { logged: Some(Instant::now()), since: 0 };
        }
    }
}
