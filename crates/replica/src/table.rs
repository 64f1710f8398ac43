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
            slots.insert(*digest, Slot { key: Arc::clone(&key), not_after: *not_after });
        }
        let now: Vec<Digest> = tokens.into_iter().map(|t| t.digest).collect();
        let before = self.digests.insert(uid, now.clone()).unwrap_or_default();
        for stale in before.iter().filter(|d| !now.contains(d)) {
            slots.remove(stale);
        }
    }

    /// Says that everything up to `revision` is in.
    pub(crate) fn publish(&self, revision: Revision) {
        self.table.revision.store(revision.0, Ordering::Release);
    }
}
