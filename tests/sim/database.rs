//! The database of a simulation: SQLite in memory. While it works, simulated time stands still.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use keyward_store::simulation::{BoxFuture, Network, Operation};
use tokio::runtime::RuntimeMetrics;
use tokio::sync::Notify;

use crate::time;

/// A piece of work, and the channel on which its completion is reported.
type Job = (BoxFuture<'static, ()>, mpsc::SyncSender<()>);

/// A thread with its own runtime. The caller blocks until its work is done. On the simulated clock this takes no time,
/// and nothing else runs meanwhile, so the simulation never depends on the real database's speed.
#[derive(Clone, Debug)]
pub(crate) struct Database(mpsc::Sender<Job>);

impl Database {
    pub(crate) fn start() -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || serve(&jobs));
        Self(sender)
    }

    fn run(&self, work: BoxFuture<'static, ()>) {
        let (done, wait) = mpsc::sync_channel(1);
        self.0.send((work, done)).unwrap();
        wait.recv().unwrap();
    }

    /// Runs a future on the database's thread and returns its result.
    pub(crate) fn execute<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (put, take) = mpsc::channel();
        self.run(Box::pin(async move { put.send(work.await).unwrap() }));
        take.recv().unwrap()
    }
}

fn serve(jobs: &mpsc::Receiver<Job>) {
    // The runtime's clock must stand still, or waiting for SQLite's own thread would look like passing time. tokio
    // advances a paused clock when all tasks are idle, but not while a blocking task runs.
    let (idle, metrics) = (Arc::new(Notify::new()), Arc::new(OnceLock::<RuntimeMetrics>::new()));
    let (waker, observed) = (Arc::clone(&idle), Arc::clone(&metrics));
    let is_idle = move || observed.get().is_some_and(|metrics| metrics.num_alive_tasks() == 0);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).on_thread_park(move || {
        if is_idle() {
            waker.notify_one();
        }
    });
    let runtime = builder.build().unwrap();
    let metrics = metrics.get_or_init(|| runtime.metrics());
    let (end, ended) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || ended.recv());
    for (work, done) in jobs {
        runtime.block_on(async {
            work.await;
            // Waits until connections are back in the pool. Otherwise the next query would wait for one by a timer,
            // which takes longer than everything else.
            while metrics.num_alive_tasks() > 0 {
                idle.notified().await;
            }
        });
        // The receiver is gone if its process has crashed.
        let _ = done.send(());
    }
    drop(end);
}

/// The faults of an admin's connection to the database.
#[derive(Debug, Default)]
struct LinkFaults {
    /// Until then, no request gets through.
    stalled_until: Duration,
    /// Until then, every request is refused.
    refused_until: Duration,
    /// Until then, no response comes back, but requests are executed.
    mute_until: Duration,
    /// Until then, no response to a request outside a transaction comes back. Heartbeats do not queue behind such
    /// requests.
    reads_late_until: Duration,
    /// The response to the next commit is lost.
    lose_commit: bool,
    /// The number of lost responses.
    lost: u64,
}

/// An admin's connection to the database.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseLink {
    database: Database,
    faults: Arc<Mutex<LinkFaults>>,
}

impl DatabaseLink {
    pub(crate) fn to(database: &Database) -> Self {
        Self { database: database.clone(), faults: Arc::default() }
    }

    pub(crate) fn stall_until(&self, until: Duration) {
        self.faults.lock().unwrap().stalled_until = until;
    }

    pub(crate) fn refuse_until(&self, until: Duration) {
        self.faults.lock().unwrap().refused_until = until;
    }

    pub(crate) fn mute_until(&self, until: Duration) {
        self.faults.lock().unwrap().mute_until = until;
    }

    pub(crate) fn delay_reads_until(&self, until: Duration) {
        self.faults.lock().unwrap().reads_late_until = until;
    }

    pub(crate) fn lose_commit(&self) {
        self.faults.lock().unwrap().lose_commit = true;
    }

    pub(crate) fn lost_commits(&self) -> u64 {
        self.faults.lock().unwrap().lost
    }

    async fn send(&self) -> Result<(), String> {
        loop {
            let (refused, until) = {
                let faults = self.faults.lock().unwrap();
                (faults.refused_until, faults.stalled_until)
            };
            if time::now() < refused {
                return Err("the database refuses to be connected to".to_owned());
            }
            if time::now() >= until {
                break;
            }
            time::sleep_until(until).await;
        }
        // All requests reach the database in the middle of a simulator step, because the machines run one after the
        // other within a step. The order of responses then follows the order of the requests in simulated time.
        time::middle_of_a_step().await;
        Ok(())
    }

    async fn receive(&self, operation: Operation) -> Result<(), String> {
        let until = {
            let mut faults = self.faults.lock().unwrap();
            if operation == Operation::Commit && std::mem::take(&mut faults.lose_commit) {
                faults.lost += 1;
                return Err("the connection to the database broke".to_owned());
            }
            match operation {
                Operation::Statement => faults.mute_until.max(faults.reads_late_until),
                Operation::Commit => faults.mute_until,
                Operation::Begin | Operation::StatementInTransaction => Duration::ZERO,
            }
        };
        if time::now() < until {
            time::sleep_until(until).await;
        }
        Ok(())
    }
}

impl Network for DatabaseLink {
    fn request(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>> {
        if matches!(operation, Operation::StatementInTransaction | Operation::Commit) {
            // A transaction holds the only connection.
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.send())
    }

    fn execute(&self, call: BoxFuture<'static, ()>) {
        self.database.run(call);
    }

    fn response(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.receive(operation))
    }
}
