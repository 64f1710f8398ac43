//! What was asked and what was answered, as clients saw it, on one clock.

use std::time::Duration;

use keyward_proto::validate::Verdict;

/// What happened to a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Create,
    Deactivate,
    Activate,
}

/// One change of a key, tried until it succeeds: when it was first tried, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) begun: Duration,
    pub(crate) done: Option<Done>,
}

/// The revision of a change of which nobody has said one.
pub(crate) const UNKNOWN_REVISION: i64 = i64::MAX;

/// A change that was said to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) at: Duration,
    pub(crate) revision: i64,
    /// And known to every validator.
    pub(crate) enforced: bool,
}

/// A key, with its changes in order: one operator changes it, one change at a time.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) token: String,
    /// What the last change said that it is. Sent with the next one: a try that nobody heard of again, and that an admin
    /// which was stopped makes only then, must not come to pass after it.
    pub(crate) etag: String,
    pub(crate) changes: Vec<Change>,
}

/// What a validator said of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) key: usize,
    pub(crate) validator: usize,
    /// Which process it was.
    pub(crate) life: u32,
    pub(crate) asked: Duration,
    pub(crate) told: Duration,
    pub(crate) verdict: Verdict,
    pub(crate) revision: i64,
}

/// One try of a Deactivate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    pub(crate) admin: usize,
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    /// How long it took by the admin's clock.
    pub(crate) felt: f64,
    /// How long the caller would have waited.
    pub(crate) patience: Duration,
    /// Its receipt said so; `None`: it failed.
    pub(crate) waited_out: Option<bool>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) keys: Vec<Key>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) tries: Vec<Try>,
    /// Calls that got no verdict.
    pub(crate) unavailable: u64,
    trace: blake3::Hasher,
    /// Whether to say everything as it happens.
    loud: bool,
}

impl History {
    pub(crate) fn new(loud: bool) -> Self {
        Self {
            keys: Vec::new(),
            answers: Vec::new(),
            tries: Vec::new(),
            unavailable: 0,
            trace: blake3::Hasher::new(),
            loud,
        }
    }

    /// Notes what happened at that time. Two runs of a seed must note the same.
    pub(crate) fn note(&mut self, at: Duration, what: &str) {
        let line = format!("{:>9.3} {what}\n", at.as_secs_f64());
        self.trace.update(line.as_bytes());
        if self.loud {
            eprint!("{line}");
        }
    }

    /// What tells two runs apart.
    pub(crate) fn fingerprint(&self) -> String {
        self.trace.finalize().to_hex()[..16].to_owned()
    }

    /// Which keys are worth asking about: the newest.
    pub(crate) fn newest(&self, count: usize) -> std::ops::Range<usize> {
        self.keys.len().saturating_sub(count)..self.keys.len()
    }
}
