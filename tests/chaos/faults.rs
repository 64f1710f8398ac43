//! Injects the scheduled faults, and records when each admin was affected by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward_tests::proxy::{Network, Proxy};
use rustix::process::Signal;

use crate::run::Run;
use crate::schedule::{ADMINS, Event, Fault, KINDS, Lane, Target};

/// How long a disturbance is remembered: longer than any call takes.
const MEMORY: Duration = Duration::from_secs(120);

/// The interval at which ended processes are restarted.
const SUPERVISION: Duration = Duration::from_millis(300);

/// How often each kind of fault was injected.
#[derive(Debug, Default)]
pub(crate) struct FaultCounts([AtomicUsize; KINDS.len()]);

impl FaultCounts {
    fn count(&self, fault: Fault) {
        self.0[fault.kind()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the name and the count of each kind.
    pub(crate) fn by_kind(&self) -> Vec<(&'static str, usize)> {
        KINDS.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }
}

/// The times at which each admin was suspended, dead or without its database.
#[derive(Debug, Default)]
pub(crate) struct Disturbances([Mutex<Vec<Disturbance>>; ADMINS]);

#[derive(Debug)]
struct Disturbance {
    id: usize,
    begun: Instant,
    ended: Option<Instant>,
}

impl Disturbances {
    /// Records the begin of a disturbance, before the fault is injected. Returns the id that ends it.
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

    /// Returns `true` if the admin was disturbed at any time from `begun` to `ended`.
    pub(crate) fn overlaps(&self, admin: usize, begun: Instant, ended: Instant) -> bool {
        let all = self.0[admin].lock().unwrap();
        all.iter().any(|one| one.begun <= ended && one.ended.is_none_or(|end| end >= begun))
    }
}

/// Restarts processes that ended without a fault, as a supervisor would. For example, an admin that starts without a
/// database ends.
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

/// Injects the faults of one target.
pub(crate) async fn inject_lane(run: Arc<Run>, lane: Lane) {
    for Event { at, fault, lasts } in lane.events {
        tokio::time::sleep_until((run.begun + at).into()).await;
        let disturbed: Vec<_> = lane.target.disturbs().into_iter().map(|a| (a, run.disturbances.begin(a))).collect();
        inject(&run, lane.target, fault, lasts).await;
        run.fault_counts.count(fault);
        for (admin, id) in disturbed {
            // In its own task, because the next fault is another disturbance.
            tokio::spawn(end_when_ready(Arc::clone(&run), admin, id));
        }
    }
}

/// Ends a disturbance when the admin reports that it can grant leases again.
async fn end_when_ready(run: Arc<Run>, admin: usize, id: usize) {
    run.site.admins[admin].ready().await;
    run.disturbances.end(admin, id);
}

async fn inject(run: &Run, target: Target, fault: Fault, lasts: Duration) {
    match target {
        Target::Validator(v) => {
            let program = &run.site.validators[v];
            if fault == Fault::Kill {
                program.kill();
                run.progress[v].lock().unwrap().next_life();
                tokio::time::sleep(lasts).await;
                program.start();
            } else {
                suspend(|signal| program.signal(signal), lasts).await;
            }
        }
        Target::Admin(a) => {
            let program = &run.site.admins[a];
            if fault == Fault::Kill {
                program.kill();
                tokio::time::sleep(lasts).await;
                program.start();
            } else {
                suspend(|signal| program.signal(signal), lasts).await;
            }
        }
        Target::Link(v, a) => disturb(&run.site.links[v][a], fault, lasts).await,
        Target::DatabaseLink(a) => disturb(&run.site.database_links[a], fault, lasts).await,
        Target::Database => database(run, fault, lasts).await,
    }
}

async fn suspend(signal: impl Fn(Signal), lasts: Duration) {
    signal(Signal::STOP);
    tokio::time::sleep(lasts).await;
    signal(Signal::CONT);
}

async fn disturb(link: &Proxy, fault: Fault, lasts: Duration) {
    match fault {
        Fault::Cut => link.set(Network::Cut),
        Fault::Silence => link.set(Network::Silent),
        Fault::HalfOpenUp => link.set(Network::SilentUp),
        Fault::HalfOpenDown => link.set(Network::SilentDown),
        Fault::Delay(by) => link.set(Network::Slow(by)),
        _ => link.reset(),
    }
    tokio::time::sleep(lasts).await;
    if matches!(fault, Fault::HalfOpenUp | Fault::HalfOpenDown) {
        link.reset();
    }
    link.set(Network::Whole);
}

async fn database(run: &Run, fault: Fault, lasts: Duration) {
    let cluster = Arc::clone(&run.site.cluster);
    let restart = move || {
        let postgres = &mut cluster.lock().unwrap().postgres;
        if fault == Fault::Crash {
            postgres.crash().unwrap();
        } else {
            postgres.stop().unwrap();
        }
        std::thread::sleep(lasts);
        postgres.restart().unwrap();
    };
    tokio::task::spawn_blocking(restart).await.unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_overlaps_only_the_disturbances_of_its_admin_during_the_call() {
        let disturbances = Disturbances::default();
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        let id = disturbances.begin(1);
        let during = Instant::now();
        assert!(disturbances.overlaps(1, before, during));
        assert!(!disturbances.overlaps(1, before, before));
        assert!(!disturbances.overlaps(0, before, during));
        disturbances.end(1, id);
        std::thread::sleep(Duration::from_millis(1));
        let after = Instant::now();
        assert!(disturbances.overlaps(1, during, after));
        assert!(!disturbances.overlaps(1, after, after));
    }
}
