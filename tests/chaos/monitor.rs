//! Observes the run without taking part: when each revision was committed, and how long this process itself was
//! delayed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use crate::run::Run;

/// The polling interval.
const POLL: Duration = Duration::from_millis(10);

/// How many commits are remembered. The duration of a call about an older one is not checked.
const COMMITS: usize = 20_000;

/// A sleep that is late by more than this counts as noise.
const NOISE: Duration = Duration::from_millis(20);

/// How many delays are remembered.
const DELAYS: usize = 2_000;

/// The time by which each revision was committed, as seen by a database connection that no fault affects.
#[derive(Debug, Default)]
pub(crate) struct Commits(Mutex<VecDeque<(i64, Instant)>>);

impl Commits {
    /// Records that everything up to `revision` is committed.
    pub(crate) fn seen(&self, revision: i64, now: Instant) {
        let mut commits = self.0.lock().unwrap();
        if commits.back().is_some_and(|(newest, _)| *newest >= revision) {
            return;
        }
        if commits.len() == COMMITS {
            commits.pop_front();
        }
        commits.push_back((revision, now));
    }

    /// Returns a time shortly after the revision was committed, or `None` if the commit was not observed.
    pub(crate) fn committed_by(&self, revision: i64) -> Option<Instant> {
        let commits = self.0.lock().unwrap();
        let at = commits.partition_point(|(seen, _)| *seen < revision);
        // Revisions before the first observation may be much older.
        if at == 0 { None } else { commits.get(at).map(|(_, when)| *when) }
    }
}

/// When this process was delayed, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Noise(Mutex<VecDeque<(Instant, Duration)>>);

impl Noise {
    fn note(&self, now: Instant, late: Duration) {
        let mut delays = self.0.lock().unwrap();
        if delays.len() == DELAYS {
            delays.pop_front();
        }
        delays.push_back((now, late));
    }

    /// Returns the sum of the delays from `begun` to `ended`.
    pub(crate) fn between(&self, begun: Instant, ended: Instant) -> Duration {
        let delays = self.0.lock().unwrap();
        delays.iter().filter(|(at, _)| (begun..=ended).contains(at)).map(|(_, late)| *late).sum()
    }
}

/// Observes the newest revision until the run ends.
pub(crate) async fn watch_commits(run: Arc<Run>) {
    while !run.is_over() {
        // The connection fails while the server restarts.
        let _ = poll_revision(&run).await;
        tokio::time::sleep(POLL).await;
    }
}

async fn poll_revision(run: &Run) -> Result<(), sqlx::Error> {
    let mut database = PgConnection::connect(&run.site.database_url).await?;
    while !run.is_over() {
        let revision =
            sqlx::query_scalar::<_, i64>("SELECT revision FROM rev_counter").fetch_one(&mut database).await?;
        run.commits.seen(revision, Instant::now());
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Measures how late this process wakes up, until the run ends.
pub(crate) async fn watch_noise(run: Arc<Run>) {
    while !run.is_over() {
        let begun = Instant::now();
        tokio::time::sleep(POLL).await;
        let late = begun.elapsed().saturating_sub(POLL);
        if late > NOISE {
            run.noise.note(Instant::now(), late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_has_the_time_of_the_first_poll_that_shows_it() {
        let (commits, zero) = (Commits::default(), Instant::now());
        let at = |millis| zero + Duration::from_millis(millis);
        for (revision, millis) in [(5, 0), (5, 10), (8, 20), (9, 30)] {
            commits.seen(revision, at(millis));
        }
        let by = |revision| commits.committed_by(revision);
        assert_eq!((by(6), by(8), by(9)), (Some(at(20)), Some(at(20)), Some(at(30))));
        assert_eq!((by(4), by(5), by(10)), (None, None, None));
    }

    #[test]
    fn only_noise_during_the_call_counts() {
        let (noise, zero) = (Noise::default(), Instant::now());
        let at = |millis| zero + Duration::from_millis(millis);
        for millis in [10, 20, 30] {
            noise.note(at(millis), Duration::from_millis(millis));
        }
        assert_eq!(noise.between(at(15), at(30)), Duration::from_millis(50));
        assert_eq!(noise.between(at(31), at(90)), Duration::ZERO);
    }
}
