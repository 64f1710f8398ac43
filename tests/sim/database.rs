//! The database of a simulation: SQLite in memory, which works while everything else stands still.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use keyward_store::simulation::{BoxFuture, Network, Operation};
use tokio::runtime::RuntimeMetrics;
use tokio::sync::Notify;

use crate::time;

/// Something for the database to do, and whom to tell that it is done.
type Job = (BoxFuture<'static, ()>, mpsc::SyncSender<()>);

/// A thread with a runtime of its own. Whoever has it work waits for it: on the simulated clock no time passes, and nothing
/// else happens, so that what happens next never depends on how quick the real database was.
#[derive(Clone, Debug)]
pub(crate) struct Database(mpsc::Sender<Job>);

impl Database {
    pub(crate) fn start() -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || work_on(&jobs));
        Self(sender)
    }

    fn run(&self, work: BoxFuture<'static, ()>) {
        let (done, wait) = mpsc::sync_channel(1);
        self.0.send((work, done)).unwrap();
        wait.recv().unwrap();
    }

    /// Has it do something now.
    pub(crate) fn answer<T: Send + 'static>(&self, question: impl Future<Output = T> + Send + 'static) -> T {
        let (put, take) = mpsc::channel();
        self.run(Box::pin(async move { put.send(question.await).unwrap() }));
        take.recv().unwrap()
    }
}

fn work_on(jobs: &mpsc::Receiver<Job>) {
    // Its clock stands still, or waiting for SQLite's own thread would look like time gone by: tokio moves a paused clock on
    // when there is nothing to do, but not while a blocking task runs.
    let (idle, metrics) = (Arc::new(Notify::new()), Arc::new(OnceLock::<RuntimeMetrics>::new()));
    let (waker, looks) = (Arc::clone(&idle), Arc::clone(&metrics));
    let is_idle = move || looks.get().is_some_and(|metrics| metrics.num_alive_tasks() == 0);
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
            // A connection that is being put back would have the next question wait for it by a timer, which takes longer
            // than all the rest.
            while metrics.num_alive_tasks() > 0 {
                idle.notified().await;
            }
        });
        // Who has crashed meanwhile does not ask.
        let _ = done.send(());
    }
    drop(end);
}

/// What may befall an admin's way to the database.
#[derive(Debug, Default)]
struct Trouble {
    /// Nothing gets through until then.
    stalled_until: Duration,
    /// Whatever is asked until then is refused.
    refused_until: Duration,
    /// No answer comes back until then; what it answers is done.
    mute_until: Duration,
    /// No answer to a question outside a transaction comes back until then: heartbeats do not queue behind such.
    reads_late_until: Duration,
    /// The answer to the next commit is lost.
    lose_commit: bool,
    /// How many answers were lost.
    lost: u64,
}

/// An admin's way to the database.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    database: Database,
    trouble: Arc<Mutex<Trouble>>,
}

impl Way {
    pub(crate) fn to(database: &Database) -> Self {
        Self { database: database.clone(), trouble: Arc::default() }
    }

    pub(crate) fn stall_until(&self, until: Duration) {
        self.trouble.lock().unwrap().stalled_until = until;
    }

    pub(crate) fn refuse_until(&self, until: Duration) {
        self.trouble.lock().unwrap().refused_until = until;
    }

    pub(crate) fn mute_until(&self, until: Duration) {
        self.trouble.lock().unwrap().mute_until = until;
    }

    pub(crate) fn delay_reads_until(&self, until: Duration) {
        self.trouble.lock().unwrap().reads_late_until = until;
    }

    pub(crate) fn lose_commit(&self) {
        self.trouble.lock().unwrap().lose_commit = true;
    }

    pub(crate) fn lost_commits(&self) -> u64 {
        self.trouble.lock().unwrap().lost
    }

    async fn go(&self) -> Result<(), String> {
        loop {
            let (refused, until) = {
                let trouble = self.trouble.lock().unwrap();
                (trouble.refused_until, trouble.stalled_until)
            };
            if time::now() < refused {
                return Err("the database refuses to be connected to".to_owned());
            }
            if time::now() >= until {
                break;
            }
            time::sleep_until(until).await;
        }
        // All admins reach it at the same instants, in the middle of the simulator's steps, in which one machine is run
        // after the other: a question that is asked later by the clock is then also answered later.
        time::middle_of_a_step().await;
        Ok(())
    }

    async fn come_back(&self, operation: Operation) -> Result<(), String> {
        let until = {
            let mut trouble = self.trouble.lock().unwrap();
            if operation == Operation::Commit && std::mem::take(&mut trouble.lose_commit) {
                trouble.lost += 1;
                return Err("the connection to the database broke".to_owned());
            }
            match operation {
                Operation::Statement => trouble.mute_until.max(trouble.reads_late_until),
                Operation::Commit => trouble.mute_until,
                Operation::Begin | Operation::StatementInTransaction => Duration::ZERO,
            }
        };
        if time::now() < until {
            time::sleep_until(until).await;
        }
        Ok(())
    }
}

impl Network for Way {
    fn request(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>> {
        if matches!(operation, Operation::StatementInTransaction | Operation::Commit) {
            // A transaction holds the only connection there is.
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.go())
    }

    fn execute(&self, call: BoxFuture<'static, ()>) {
        self.database.run(call);
    }

    fn response(&self, operation: Operation) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.come_back(operation))
    }
}
