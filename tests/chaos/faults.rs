//! Carries the schedule out, and remembers who could not be held to anything when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_tests::proxy::{Network, Proxy};
use rustix::process::Signal;

use crate::run::Run;
use crate::schedule::{ADMINS, Event, Fault, KINDS, Lane, Target};

/// How long a disturbance is remembered: longer than any call takes.
const MEMORY: Duration = Duration::from_secs(120);

/// How soon a supervisor looks again.
const SUPERVISION: Duration = Duration::from_millis(300);

/// How often each kind of fault has been done.
#[derive(Debug, Default)]
pub(crate) struct Done([AtomicUsize; KINDS.len()]);

impl Done {
    fn count(&self, fault: Fault) {
        self.0[fault.kind()].fetch_add(1, Ordering::Relaxed);
    }

    /// Name and number of each kind.
    pub(crate) fn by_kind(&self) -> Vec<(&'static str, usize)> {
        KINDS.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }
}

/// When an admin was stopped, dead or without its database.
#[derive(Debug, Default)]
pub(crate) struct Disturbances([Mutex<Vec<Disturbance>>; ADMINS]);

#[derive(Debug)]
struct Disturbance {
    id: usize,
    begun: Instant,
    ended: Option<Instant>,
}

impl Disturbances {
    /// To be called before the fault. What it returns ends it.
    fn begin(&self, admin: usize) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (id, now) = (NEXT.fetch_add(1, Ordering::Relaxed), Instant::now());
        let mut all = self.0[admin].lock().unwrap();
        all.retain(|one| one.ended.is_none_or(|ended| now.duration_since(ended) < MEMORY));
        all.push(Disturbance { id, begun: now, ended: None });
        id
    }

    fn end(&self, admin: usize, id: usize) {
        let mut all = self.0[admin].lock().unwrap();
        if let Some(one) = all.iter_mut().find(|one| one.id == id) {
            one.ended = Some(Instant::now());
        }
    }

    /// Whether an admin was disturbed at any time from `begun` to `ended`.
    pub(crate) fn touch(&self, admin: usize, begun: Instant, ended: Instant) -> bool {
        let all = self.0[admin].lock().unwrap();
        all.iter().any(|one| one.begun <= ended && one.ended.is_none_or(|end| end >= begun))
    }
}

/// Starts what has ended by itself, as a supervisor would: an admin that finds no database when it starts does end.
pub(crate) async fn supervise(run: Arc<Run>) {
    loop {
        for admin in run.site.admins.iter().filter(|admin| admin.has_ended()) {
            run.tally.ended.one();
            admin.start();
        }
        for (validator, progress) in run.site.validators.iter().zip(&run.progress) {
            if validator.has_ended() {
                run.tally.ended.one();
                progress.lock().unwrap().next_life();
                validator.start();
            }
        }
        tokio::time::sleep(SUPERVISION).await;
    }
}

/// Does to one target what the schedule says.
pub(crate) async fn befall(run: Arc<Run>, lane: Lane) {
    for Event { at, fault, lasts } in lane.events {
        tokio::time::sleep_until((run.begun + at).into()).await;
        let disturbed: Vec<_> = lane.target.disturbs().into_iter().map(|a| (a, run.disturbances.begin(a))).collect();
        do_to(&run, lane.target, fault, lasts).await;
        run.done.count(fault);
        for (admin, id) in disturbed {
            // Beside the next fault, which is another disturbance.
            tokio::spawn(until_well(Arc::clone(&run), admin, id));
        }
    }
}

/// A disturbance has ended when the admin itself says that it can grant leases again.
async fn until_well(run: Arc<Run>, admin: usize, id: usize) {
    run.site.admins[admin].ready().await;
    run.disturbances.end(admin, id);
}

async fn do_to(run: &Run, target: Target, fault: Fault, lasts: Duration) {
    match target {
        Target::Validator(v) => {
            let program = &run.site.validators[v];
            if fault == Fault::Kill {
                program.kill();
                run.progress[v].lock().unwrap().next_life();
                tokio::time::sleep(lasts).await;
                program.start();
            } else {
                stop_and_go(|signal| program.signal(signal), lasts).await;
            }
        }
        Target::Admin(a) => {
            let program = &run.site.admins[a];
            if fault == Fault::Kill {
                program.kill();
                tokio::time::sleep(lasts).await;
                program.start();
            } else {
                stop_and_go(|signal| program.signal(signal), lasts).await;
            }
        }
        Target::Way(v, a) => disturb(&run.site.ways[v][a], fault, lasts).await,
        Target::DatabaseWay(a) => disturb(&run.site.database_ways[a], fault, lasts).await,
        Target::Database => database(run, fault, lasts).await,
    }
}

async fn stop_and_go(signal: impl Fn(Signal), lasts: Duration) {
    signal(Signal::STOP);
    tokio::time::sleep(lasts).await;
    signal(Signal::CONT);
}

async fn disturb(way: &Proxy, fault: Fault, lasts: Duration) {
    match fault {
        Fault::Cut => way.set(Network::Cut),
        Fault::Silence => way.set(Network::Silent),
        Fault::HalfOpenUp => way.set(Network::SilentUp),
        Fault::HalfOpenDown => way.set(Network::SilentDown),
        Fault::Delay(by) => way.set(Network::Slow(by)),
        _ => way.reset(),
    }
    tokio::time::sleep(lasts).await;
    if matches!(fault, Fault::HalfOpenUp | Fault::HalfOpenDown) {
        way.reset();
    }
    way.set(Network::Whole);
}

async fn database(run: &Run, fault: Fault, lasts: Duration) {
    let cluster = Arc::clone(&run.site.cluster);
    let stopped_and_started = move || {
        let postgres = &mut cluster.lock().unwrap().postgres;
        if fault == Fault::Crash {
            postgres.crash().unwrap();
        } else {
            postgres.stop().unwrap();
        }
        std::thread::sleep(lasts);
        postgres.restart().unwrap();
    };
    tokio::task::spawn_blocking(stopped_and_started).await.unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_beside_a_disturbance_is_told_from_one_before_or_after_it() {
        let disturbances = Disturbances::default();
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        let id = disturbances.begin(1);
        let amid = Instant::now();
        assert!(disturbances.touch(1, before, amid));
        assert!(!disturbances.touch(1, before, before));
        assert!(!disturbances.touch(0, before, amid));
        disturbances.end(1, id);
        std::thread::sleep(Duration::from_millis(1));
        let after = Instant::now();
        assert!(disturbances.touch(1, amid, after));
        assert!(!disturbances.touch(1, after, after));
    }
}
