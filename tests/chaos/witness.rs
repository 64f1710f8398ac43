//! Looks on without taking part: when what was committed, and how far this machine's own noise goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use crate::run::Run;

/// How often the log's end is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// As many commits as are remembered; a call about an older one is not judged.
const COMMITS: usize = 20_000;

/// A sleep that takes so much longer than it should is noise.
const NOISE: Duration = Duration::from_millis(20);

/// As many pieces of noise as are remembered.
const PIECES: usize = 2_000;

/// By when each revision was committed, as a connection to the database sees it that no fault befalls.
#[derive(Debug, Default)]
pub(crate) struct Commits(Mutex<VecDeque<(i64, Instant)>>);

impl Commits {
    /// Notes that everything up to `revision` is committed.
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

    /// An instant at which a revision was committed already, soon after it was. `None`: that was not seen.
    pub(crate) fn committed_by(&self, revision: i64) -> Option<Instant> {
        let commits = self.0.lock().unwrap();
        let at = commits.partition_point(|(seen, _)| *seen < revision);
        // What came before the first one seen may be much older than that.
        if at == 0 { None } else { commits.get(at).map(|(_, when)| *when) }
    }
}

/// When this process itself was kept waiting, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Noise(Mutex<VecDeque<(Instant, Duration)>>);

impl Noise {
    fn note(&self, now: Instant, late: Duration) {
        let mut pieces = self.0.lock().unwrap();
        if pieces.len() == PIECES {
            pieces.pop_front();
        }
        pieces.push_back((now, late));
    }

    /// How much of the time from `begun` to `ended` was lost to it.
    pub(crate) fn between(&self, begun: Instant, ended: Instant) -> Duration {
        let pieces = self.0.lock().unwrap();
        pieces.iter().filter(|(at, _)| (begun..=ended).contains(at)).map(|(_, late)| *late).sum()
    }
}

/// Watches the log's end, for as long as the run lasts.
pub(crate) async fn watch_commits(run: Arc<Run>) {
    while !run.is_over() {
        // Refused while the server restarts.
        let _ = look_on(&run).await;
        tokio::time::sleep(LOOK).await;
    }
}

async fn look_on(run: &Run) -> Result<(), sqlx::Error> {
    let mut database = PgConnection::connect(&run.site.database_url).await?;
    while !run.is_over() {
        let revision =
            sqlx::query_scalar::<_, i64>("SELECT revision FROM rev_counter").fetch_one(&mut database).await?;
        run.commits.seen(revision, Instant::now());
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Measures how late this process wakes up, for as long as the run lasts.
pub(crate) async fn watch_noise(run: Arc<Run>) {
    while !run.is_over() {
        let begun = Instant::now();
        tokio::time::sleep(LOOK).await;
        let late = begun.elapsed().saturating_sub(LOOK);
        if late > NOISE {
            run.noise.note(Instant::now(), late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_dated_by_the_first_look_that_shows_it() {
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
    fn noise_counts_within_the_call_only() {
        let (noise, zero) = (Noise::default(), Instant::now());
        let at = |millis| zero + Duration::from_millis(millis);
        for millis in [10, 20, 30] {
            noise.note(at(millis), Duration::from_millis(millis));
        }
        assert_eq!(noise.between(at(15), at(30)), Duration::from_millis(50));
        assert_eq!(noise.between(at(31), at(90)), Duration::ZERO);
    }
}
