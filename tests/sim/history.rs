//! The requests and answers of a simulation as its clients saw them, on one clock.

use std::time::Duration;

use keyward_proto::validate::Verdict;

/// A kind of change of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Create,
    Deactivate,
    Activate,
}

/// One change of a key, attempted until it succeeds: the time of the first attempt, and the outcome.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) begun: Duration,
    pub(crate) done: Option<Done>,
}

/// The revision of a change whose revision is unknown.
pub(crate) const UNKNOWN_REVISION: i64 = i64::MAX;

/// The outcome of a change that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) at: Duration,
    pub(crate) revision: i64,
    /// `true` if the change is enforced.
    pub(crate) enforced: bool,
}

/// A key with its changes in order. One operator makes them, one at a time.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) token: String,
    /// The etag after the last change. The next change sends it, so that an earlier attempt that a suspended admin
    /// executes late is refused.
    pub(crate) etag: String,
    pub(crate) changes: Vec<Change>,
}

/// A validator's answer for a key's token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) key: usize,
    pub(crate) validator: usize,
    /// The number of the validator's process.
    pub(crate) life: u32,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
    pub(crate) verdict: Verdict,
    pub(crate) revision: i64,
}

/// One attempt of a Deactivate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) admin: usize,
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    /// Its duration by the admin's clock, in seconds.
    pub(crate) elapsed: f64,
    /// The deadline of the call.
    pub(crate) patience: Duration,
    /// `true` if the receipt states that leases were waited out; `None` if the call failed.
    pub(crate) waited_out: Option<bool>,
}

/// Everything that was observed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) keys: Vec<Key>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) attempts: Vec<Attempt>,
    /// Validations without a verdict.
    pub(crate) unavailable: u64,
    trace: blake3::Hasher,
    /// `true` if every event is printed.
    loud: bool,
}

impl History {
    pub(crate) fn new(loud: bool) -> Self {
        Self {
            keys: Vec::new(),
            answers: Vec::new(),
            attempts: Vec::new(),
            unavailable: 0,
            trace: blake3::Hasher::new(),
            loud,
        }
    }

    /// Adds an event to the trace. Two runs of a seed must have the same trace.
    pub(crate) fn note(&mut self, at: Duration, what: &str) {
        let line = format!("{:>9.3} {what}\n", at.as_secs_f64());
        self.trace.update(line.as_bytes());
        if self.loud {
            eprint!("{line}");
        }
    }

    /// Returns a hash of the trace.
    pub(crate) fn fingerprint(&self) -> String {
        self.trace.finalize().to_hex()[..16].to_owned()
    }

    /// Returns the indices of the newest keys.
    pub(crate) fn newest(&self, count: usize) -> std::ops::Range<usize> {
        self.keys.len().saturating_sub(count)..self.keys.len()
    }
}
