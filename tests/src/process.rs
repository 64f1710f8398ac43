//! Child processes that end with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest wait for a process to become ready, or to end. Generous, because the wait ends as soon as it is met.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process whose stderr goes to a file. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. Its stderr is appended to `log`, its stdout written to `{log}.out`.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let append = || fs::File::options().create(true).append(true).open(log).unwrap();
        let out = fs::File::create(out_file(log)).unwrap();
        command.stdin(Stdio::null()).stderr(append()).stdout(out);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Self { child, log: log.to_owned() }
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that it has written to stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns everything that it has written to stdout.
    pub fn out(&self) -> String {
        fs::read_to_string(out_file(&self.log)).unwrap_or_default()
    }

    /// Polls until `poll` returns a value, for as long as the process lives.
    ///
    /// # Panics
    /// If the process ends first, or [`PATIENCE`] is exceeded. The message contains the log.
    pub fn wait_for<T>(&mut self, what: &str, mut poll: impl FnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = poll(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            if let Some(status) = ended {
                panic!("ended with {status} before {what}:\n{}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "no {what} in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal. After SIGSTOP, waits until every thread has stopped: a thread that runs on another processor answers
    /// requests for a moment longer.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        while signal == Signal::STOP && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns `true` if no thread of the process can run, by proc(5).
    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return true };
        threads.flatten().all(|thread| {
            // The state follows the name, which is in parentheses.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
        })
    }

    /// Returns `true` if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it with SIGKILL and waits until it has ended.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits until it has ended.
    ///
    /// # Panics
    /// If its exit code is not 0, or it does not end in time.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "ended with {status}:\n{}", self.log());
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns everything that an ended command wrote to stdout and stderr.
pub fn output_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn out_file(log: &Path) -> PathBuf {
    log.with_extension("out")
}
