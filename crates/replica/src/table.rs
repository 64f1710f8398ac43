use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyward_domain::{
    Expectation, KeyEntry, KeyName, Platform, Revision, Timestamp, TokenEntry, TokenFacts, Uid, Verdict, WithheldToken,
    evaluate,
};
use keyward_protocol::validator::Table;
use keyward_token::Digest;

/// Every token of every key, by digest. It has one writer; readers never wait.
///
/// The map is lock-free (papaya).
#[derive(Debug)]
pub struct SharedTable {
    slots: papaya::HashMap<Digest, Slot, BuildHasherDefault<DigestHasher>>,
    revision: AtomicI64,
}

/// The facts about a key that a verdict needs and an answer contains. Shared by the tokens of the key.
#[derive(Debug)]
pub struct Facts {
    /// The key's uid.
    pub uid: Uid,
    /// Its name.
    pub name: KeyName,
    /// Its resource name, rendered once.
    pub resource_name: String,
    /// The platform that its tokens are used on.
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
    /// The instant from which the token is denied; `None` if there is none.
    fn end(&self) -> Option<Timestamp> {
        if !self.key.active {
            return Some(Timestamp::MIN);
        }
        [self.not_after, self.key.expire_time].into_iter().flatten().min()
    }
}

/// Tokens that end, each with the instant from which it is denied.
pub type Ends = HashMap<Digest, Timestamp>;

/// A token that is denied because a lost history denied it.
#[derive(Debug)]
struct Withheld {
    from: Timestamp,
    /// The end of the token in the present history, which counts again after a release.
    own_end: Option<Timestamp>,
}

impl Withheld {
    /// Returns the earlier of the lost history's end and `not_after`, the present history's end.
    fn end_with(&mut self, not_after: Option<Timestamp>) -> Option<Timestamp> {
        self.own_end = not_after;
        Some(not_after.map_or(self.from, |end| end.min(self.from)))
    }
}

/// Uses the first bytes of a digest as its hash: digests are keyed, and therefore uniformly distributed.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    /// Hashing a byte array writes its length first, which is the same for every digest.
    fn write_usize(&mut self, _: usize) {}

    fn write_u64(&mut self, _: u64) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Default for SharedTable {
    fn default() -> Self {
        Self { slots: papaya::HashMap::default(), revision: AtomicI64::new(0) }
    }
}

impl SharedTable {
    /// The revision up to which a reader sees every change.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns `true` if there is no token.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Judges the token of that digest; `None` if the table does not contain it.
    pub fn judge(
        &self,
        digest: &Digest,
        expectation: &Expectation<'_>,
        now: Timestamp,
    ) -> Option<(Verdict, Arc<Facts>)> {
        let slots = self.slots.pin();
        let slot = slots.get(digest)?;
        let standing = TokenFacts {
            active: slot.key.active,
            not_after: slot.not_after,
            expire_time: slot.key.expire_time,
            project: &slot.key.name.project,
            platform: slot.key.platform,
        };
        Some((evaluate(&standing, expectation, now), Arc::clone(&slot.key)))
    }
}

/// The writing half of a [`SharedTable`]. It keeps the digests of each key, to remove those that a key no longer has.
#[derive(Debug, Default)]
pub struct TableWriter {
    table: Arc<SharedTable>,
    digests: HashMap<Uid, Vec<Digest>>,
    withheld: HashMap<Digest, Withheld>,
}

impl TableWriter {
    /// The table as requests read it.
    pub(crate) const fn shared(&self) -> &Arc<SharedTable> {
        &self.table
    }

    /// The number of withheld tokens.
    pub(crate) fn withheld_len(&self) -> usize {
        self.withheld.len()
    }

    /// The withheld tokens that the table's own history accepts for longer.
    pub(crate) fn accepted_longer(&self) -> Vec<WithheldToken> {
        let slots = self.table.slots.pin();
        let accepted_longer = |(digest, held): (&Digest, &Withheld)| {
            let key = &slots.get(digest)?.key;
            let own_end = Slot { key: Arc::clone(key), not_after: held.own_end }.end();
            let is_longer = own_end.is_none_or(|end| held.from < end);
            is_longer.then_some(WithheldToken { key: key.uid, digest: *digest, from: held.from })
        };
        self.withheld.iter().filter_map(accepted_longer).collect()
    }
}

impl Table for TableWriter {
    type Entry = KeyEntry;
    type Ends = Ends;

    /// Inserts the new slots before it removes stale ones, so that a token that stays is never missing in between.
    fn put(&mut self, entry: KeyEntry) {
        let KeyEntry { uid, name, platform, active, expire_time, tokens } = entry;
        let key = Arc::new(Facts { uid, resource_name: name.to_string(), name, platform, active, expire_time });
        let slots = self.table.slots.pin();
        for TokenEntry { digest, not_after, .. } in &tokens {
            let not_after = self.withheld.get_mut(digest).map_or(*not_after, |held| held.end_with(*not_after));
            slots.insert(*digest, Slot { key: Arc::clone(&key), not_after });
        }
        let now: Vec<Digest> = tokens.into_iter().map(|t| t.digest).collect();
        let before = self.digests.insert(uid, now.clone()).unwrap_or_default();
        for stale in before.iter().filter(|d| !now.contains(d)) {
            slots.remove(stale);
        }
    }

    fn withheld(&self) -> Ends {
        self.withheld.iter().map(|(digest, held)| (*digest, held.from)).collect()
    }

    fn ends(&self) -> Ends {
        // Tokens that the present history does not contain are included: another restore may bring them back.
        let mut ends = self.withheld();
        for (digest, slot) in &self.table.slots.pin() {
            if let Some(end) = slot.end() {
                ends.insert(*digest, end);
            }
        }
        ends
    }

    fn withhold(&mut self, ends: Ends) {
        let slots = self.table.slots.pin();
        for (digest, from) in ends {
            let mut held = Withheld { from, own_end: None };
            if let Some(slot) = slots.get(&digest) {
                if slot.end().is_some_and(|end| end <= from) {
                    continue;
                }
                slots.insert(digest, Slot { key: Arc::clone(&slot.key), not_after: held.end_with(slot.not_after) });
            }
            self.withheld.insert(digest, held);
        }
    }

    fn release(&mut self) {
        let slots = self.table.slots.pin();
        for (digest, held) in self.withheld.drain() {
            if let Some(Slot { key, .. }) = slots.get(&digest) {
                slots.insert(digest, Slot { key: Arc::clone(key), not_after: held.own_end });
            }
        }
    }

    fn publish(&mut self, revision: Revision) {
        self.table.revision.store(revision.0, Ordering::Release);
    }
}
