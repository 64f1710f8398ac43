use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::validation::Unavailable;

/// How often requests that are refused for want of an answer are logged: an outage must not flood the log as well.
const INTERVAL: Duration = Duration::from_secs(1);

/// Requests that were refused for want of an answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    since: u64,
}

impl Unanswered {
    /// Notes one, and logs all since the last line.
    pub(super) fn note(&self, why: Unavailable) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.logged.is_none_or(|at| at.elapsed() >= INTERVAL) {
            tracing::warn!(requests = state.since, %why, "refused for want of an answer");
            *state = State { logged: Some(Instant::now()), since: 0 };
        }
    }
}
