//! The keys that are asked about.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use crate::dice::Dice;
use crate::history::{Deed, History};
use crate::site::PROJECT;

/// How many keys that change, or have changed lately, are asked about. Older ones make room.
const CHANGING: usize = 400;

/// As many of the newest are asked about as often as all others together: about as many as operators have at once.
const NEW: usize = 100;

/// A key, with all that was done to it.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its resource name.
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) history: Mutex<History>,
}

/// Keys that live throughout, keys that were dead before it began, and keys that operators are changing.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) living: Vec<Arc<Subject>>,
    pub(crate) dead: Vec<Arc<Subject>>,
    changing: RwLock<VecDeque<Arc<Subject>>>,
}

/// The resource name of a key.
pub(crate) fn name_of(key_id: &str) -> String {
    format!("projects/{PROJECT}/keys/{key_id}")
}

impl Subject {
    /// Notes that a call begins that changes it.
    pub(crate) fn begin(&self, deed: Deed) -> usize {
        self.history.lock().unwrap().begin(deed, Instant::now())
    }

    /// Notes that such a call is committed.
    pub(crate) fn committed(&self, call: usize, revision: i64) {
        self.history.lock().unwrap().committed(call, revision, Instant::now());
    }

    /// Notes that such a call was said to be enforced.
    pub(crate) fn enforced(&self, call: usize) {
        self.history.lock().unwrap().enforced(call, Instant::now());
    }
}

impl Crowd {
    /// Takes up a new key.
    pub(crate) fn add(&self, subject: Arc<Subject>) {
        let mut changing = self.changing.write().unwrap();
        if changing.len() == CHANGING {
            changing.pop_front();
        }
        changing.push_back(subject);
    }

    /// One that changes, or has lately; before there is any, one that lives.
    pub(crate) fn changing(&self, dice: &mut Dice) -> Arc<Subject> {
        let changing = self.changing.read().unwrap();
        let oldest = if dice.place(2) == 0 { changing.len().saturating_sub(NEW) } else { 0 };
        let place = oldest + dice.place((changing.len() - oldest).max(1));
        Arc::clone(changing.get(place).unwrap_or_else(|| &self.living[dice.place(self.living.len())]))
    }

    /// So many of all kinds, most of them changing.
    pub(crate) fn some(&self, dice: &mut Dice, count: usize) -> Vec<Arc<Subject>> {
        let one = |dice: &mut Dice| match dice.place(5) {
            0 => Arc::clone(&self.living[dice.place(self.living.len())]),
            1 => Arc::clone(&self.dead[dice.place(self.dead.len())]),
            _ => self.changing(dice),
        };
        (0..count).map(|_| one(dice)).collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Subject>> {
        let changing = self.changing.read().unwrap();
        self.living.iter().chain(&self.dead).chain(changing.iter()).map(Arc::clone).collect()
    }
}
