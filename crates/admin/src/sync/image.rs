use std::collections::HashMap;
use std::sync::Arc;

use keyward_domain::{KeyEntry, Uid, WithheldToken};

/// Keys in a chunk, which is also one message of a snapshot: about 200 kB.
const CHUNK: usize = 1_024;

/// All keys. A snapshot costs one pointer per chunk. A change after a snapshot copies the one chunk that contains the key, and
/// only while a session still streams the old one.
#[derive(Debug, Default)]
pub(super) struct Image {
    chunks: Vec<Chunk>,
    index: HashMap<Uid, (usize, usize)>,
}

/// Some of the keys. A chunk that is shared with a snapshot never changes.
pub(super) type Chunk = Arc<Vec<KeyEntry>>;

impl Image {
    /// Adds a key, or replaces it.
    pub(super) fn put(&mut self, entry: KeyEntry) {
        if let Some(&(chunk, index)) = self.index.get(&entry.uid) {
            if let Some(old) = self.chunks.get_mut(chunk).and_then(|c| Arc::make_mut(c).get_mut(index)) {
                *old = entry;
            }
            return;
        }
        let last = match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk,
            _ => {
                self.chunks.push(Arc::new(Vec::with_capacity(CHUNK)));
                let Some(chunk) = self.chunks.last_mut() else { return };
                chunk
            }
        };
        let (uid, index) = (entry.uid, last.len());
        Arc::make_mut(last).push(entry);
        self.index.insert(uid, (self.chunks.len() - 1, index));
    }

    /// The key with that uid.
    pub(super) fn get(&self, uid: &Uid) -> Option<&KeyEntry> {
        let (chunk, index) = self.index.get(uid)?;
        self.chunks.get(*chunk)?.get(*index)
    }

    /// Returns `true` if the key of `token` has a token with that digest.
    pub(super) fn has(&self, token: &WithheldToken) -> bool {
        self.get(&token.key).is_some_and(|key| key.tokens.iter().any(|known| known.digest == token.digest))
    }

    /// All keys as they are now.
    pub(super) fn snapshot(&self) -> Vec<Chunk> {
        self.chunks.clone()
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use keyward_domain::{KeyName, Platform};

    use super::*;

    fn entry(n: u32, active: bool) -> KeyEntry {
        let mut uid = [0; 16];
        uid[..4].copy_from_slice(&n.to_be_bytes());
        KeyEntry {
            uid: Uid::from_bytes(uid),
            name: KeyName::parse(&format!("projects/6666/keys/k{n}")).unwrap(),
            platform: Platform::Server,
            active,
            expire_time: None,
            tokens: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_does_not_change_with_the_image() {
        let mut image = Image::default();
        let count = u32::try_from(CHUNK).unwrap() * 2 + 5;
        for n in 0..count {
            image.put(entry(n, true));
        }
        let before = image.snapshot();
        image.put(entry(7, false));
        image.put(entry(count, true));
        let keys = |chunks: &[Chunk]| chunks.iter().map(|c| c.len()).sum::<usize>();
        assert_eq!((keys(&before), keys(&image.snapshot())), (count as usize, count as usize + 1));
        assert!(before[0][7].active && !image.snapshot()[0][7].active);
        assert_eq!(image.len(), count as usize + 1);
        assert!(Arc::ptr_eq(&before[1], &image.snapshot()[1]), "unchanged chunks are shared");
    }
}
