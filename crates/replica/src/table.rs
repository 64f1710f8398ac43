use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyward_domain::{
    Expectation, KeyEntry, KeyName, Platform, Revision, Standing, Timestamp, TokenEntry, Uid, Verdict, evaluate,
};
use keyward_token::Digest;

/// Every token of every key, by digest. One writer, any number of readers that never wait for it.
///
/// The map is papaya's: lock-free, and as fast as validation needs behind an RPC.
#[derive(Debug)]
pub struct Table {
    slots: papaya::HashMap<Digest, Slot, BuildHasherDefault<DigestHasher>>,
    revision: AtomicI64,
}

/// What a verdict needs, and what an answer tells, of a key. Shared by its tokens.
#[derive(Debug)]
pub struct Facts {
    /// The key's uid.
    pub uid: Uid,
    /// Its name.
    pub name: KeyName,
    /// Its resource name, rendered once.
    pub resource_name: String,
    /// Where its tokens live.
    pub platform: Platform,
    active: bool,
    expire_time: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Slot {
    key: Arc<Facts>,
    not_after: Option<Timestamp>,
}

impl Slot {
    /// From when on the token is refused, whatever else may come.
    fn end(&self) -> Option<Timestamp> {
        if !self.key.active {
            return Some(Timestamp::MIN);
        }
        [self.not_after, self.key.expire_time].into_iter().flatten().min()
    }
}

/// From when on tokens are refused.
pub(crate) type Ends = HashMap<Digest, Timestamp>;

/// A token that is refused for what a former history said of it.
#[derive(Debug)]
struct Withheld {
    from: Timestamp,
    /// When it is superseded by the present history's account.
    otherwise: Option<Timestamp>,
}

impl Withheld {
    /// Lets the former history's word stand over what the present one says.
    fn over(&mut self, not_after: Option<Timestamp>) -> Option<Timestamp> {
        self.otherwise = not_after;
        Some(not_after.map_or(self.from, |end| end.min(self.from)))
    }
}

/// A digest is uniformly distributed and keyed, so its first bytes are as good a hash as any.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    /// Hashing a byte array writes its length first; it says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn write_u64(&mut self, _: u64) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { slots: papaya::HashMap::default(), revision: AtomicI64::new(0) }
    }
}

impl Table {
    /// The revision up to which every change is visible to a reader that asks now.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Judges the token of that digest. `None`: there is none.
    pub fn judge(
        &self,
        digest: &Digest,
        expectation: &Expectation<'_>,
        now: Timestamp,
    ) -> Option<(Verdict, Arc<Facts>)> {
        let slots = self.slots.pin();
        let slot = slots.get(digest)?;
        let standing = Standing {
            active: slot.key.active,
            not_after: slot.not_after,
            expire_time: slot.key.expire_time,
            project: &slot.key.name.project,
            platform: slot.key.platform,
        };
        Some((evaluate(&standing, expectation, now), Arc::clone(&slot.key)))
    }
}

/// The writer's half: it alone knows which digests a key had before.
#[derive(Debug, Default)]
pub(crate) struct TableWriter {
    table: Arc<Table>,
    digests: HashMap<Uid, Vec<Digest>>,
    withheld: HashMap<Digest, Withheld>,
}

impl TableWriter {
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Replaces what is known of a key. Its new slots are visible before any stale one goes, so that a token which
    /// stays is never missing in between.
    pub(crate) fn put(&mut self, entry: KeyEntry) {
        let KeyEntry { uid, name, platform, active, expire_time, tokens } = entry;
        let key = Arc::new(Facts { uid, resource_name: name.to_string(), name, platform, active, expire_time });
        let slots = self.table.slots.pin();
        for TokenEntry { digest, not_after, .. } in &tokens {
            let not_after = self.withheld.get_mut(digest).map_or(*not_after, |held| held.over(*not_after));
            slots.insert(*digest, Slot { key: Arc::clone(&key), not_after });
        }
        let now: Vec<Digest> = tokens.into_iter().map(|t| t.digest).collect();
        let before = self.digests.insert(uid, now.clone()).unwrap_or_default();
        for stale in before.iter().filter(|d| !now.contains(d)) {
            slots.remove(stale);
        }
    }

    /// The tokens that are refused for what a former history said.
    pub(crate) fn withheld(&self) -> Ends {
        self.withheld.iter().map(|(digest, held)| (*digest, held.from)).collect()
    }

    /// How many those are.
    pub(crate) fn withheld_len(&self) -> usize {
        self.withheld.len()
    }

    /// All tokens that are refused, or will be.
    pub(crate) fn ends(&self) -> Ends {
        // Those that the present history does not even know are kept in mind: another restore may bring them back.
        let mut ends = self.withheld();
        for (digest, slot) in &self.table.slots.pin() {
            if let Some(end) = slot.end() {
                ends.insert(*digest, end);
            }
        }
        ends
    }

    /// Refuses these tokens from then on, unless this history does so itself and no later; once, before anybody sees the
    /// table.
    pub(crate) fn withhold(&mut self, ends: Ends) {
        let slots = self.table.slots.pin();
        for (digest, from) in ends {
            let mut held = Withheld { from, otherwise: None };
            if let Some(slot) = slots.get(&digest) {
                if slot.end().is_some_and(|end| end <= from) {
                    continue;
                }
                slots.insert(digest, Slot { key: Arc::clone(&slot.key), not_after: held.over(slot.not_after) });
            }
            self.withheld.insert(digest, held);
        }
    }

    /// Goes by what this history says alone.
    pub(crate) fn release(&mut self) {
        let slots = self.table.slots.pin();
        for (digest, held) in self.withheld.drain() {
            if let Some(Slot { key, .. }) = slots.get(&digest) {
                slots.insert(digest, Slot { key: Arc::clone(key), not_after: held.otherwise });
            }
        }
    }

    /// Says that everything up to `revision` is in.
    pub(crate) fn publish(&self, revision: Revision) {
        self.table.revision.store(revision.0, Ordering::Release);
    }
}
