//! The keys of a run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use crate::dice::Dice;
use crate::history::{History, Kind};
use crate::site::PROJECT;

/// How many keys that are changing, or have changed recently, are validated. Older ones are dropped.
const CHANGING: usize = 400;

/// Half of those validations are of this many of the newest keys, which is about the number of operators.
const NEW: usize = 100;

/// A key, with the history of its changes.
#[derive(Debug)]
pub(crate) struct TrackedKey {
    /// Its resource name.
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) history: Mutex<History>,
}

/// Keys that stay active, keys that were deactivated before the run, and keys that operators change.
#[derive(Debug, Default)]
pub(crate) struct KeyPool {
    pub(crate) active: Vec<Arc<TrackedKey>>,
    pub(crate) deactivated: Vec<Arc<TrackedKey>>,
    changing: RwLock<VecDeque<Arc<TrackedKey>>>,
}

/// Returns the resource name of a key.
pub(crate) fn name_of(key_id: &str) -> String {
    format!("projects/{PROJECT}/keys/{key_id}")
}

impl TrackedKey {
    /// Records that a call begins that changes the key.
    pub(crate) fn begin(&self, kind: Kind) -> usize {
        self.history.lock().unwrap().begin(kind, Instant::now())
    }

    /// Records that the call is committed.
    pub(crate) fn committed(&self, call: usize, revision: i64) {
        self.history.lock().unwrap().committed(call, revision, Instant::now());
    }

    /// Records that the call is enforced.
    pub(crate) fn enforced(&self, call: usize) {
        self.history.lock().unwrap().enforced(call, Instant::now());
    }
}

impl KeyPool {
    /// Adds a new key, which operators will change.
    pub(crate) fn add(&self, key: Arc<TrackedKey>) {
        let mut changing = self.changing.write().unwrap();
        if changing.len() == CHANGING {
            changing.pop_front();
        }
        changing.push_back(key);
    }

    /// Returns a key that is changing or has changed recently. Before there is one, returns an active key.
    pub(crate) fn changing(&self, dice: &mut Dice) -> Arc<TrackedKey> {
        let changing = self.changing.read().unwrap();
        let oldest = if dice.index(2) == 0 { changing.len().saturating_sub(NEW) } else { 0 };
        let index = oldest + dice.index((changing.len() - oldest).max(1));
        Arc::clone(changing.get(index).unwrap_or_else(|| &self.active[dice.index(self.active.len())]))
    }

    /// Returns keys of all kinds, most of them changing.
    pub(crate) fn some(&self, dice: &mut Dice, count: usize) -> Vec<Arc<TrackedKey>> {
        let one = |dice: &mut Dice| match dice.index(5) {
            0 => Arc::clone(&self.active[dice.index(self.active.len())]),
            1 => Arc::clone(&self.deactivated[dice.index(self.deactivated.len())]),
            _ => self.changing(dice),
        };
        (0..count).map(|_| one(dice)).collect()
    }

    /// Returns all keys.
    pub(crate) fn all(&self) -> Vec<Arc<TrackedKey>> {
        let changing = self.changing.read().unwrap();
        self.active.iter().chain(&self.deactivated).chain(changing.iter()).map(Arc::clone).collect()
    }
}
