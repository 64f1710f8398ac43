use std::collections::HashMap;
use std::sync::Arc;

use keyward_domain::{KeyEntry, Uid, WithheldToken};

/// Keys in a chunk, which is also a snapshot message: some 200 kB.
const CHUNK: usize = 1_024;

/// All keys as validators know them. A snapshot of it costs one pointer per chunk; a change after that copies the one
/// chunk that it falls in, and only while somebody still streams the old one.
#[derive(Debug, Default)]
pub(super) struct Image {
    chunks: Vec<Chunk>,
    index: HashMap<Uid, (usize, usize)>,
}

/// Some of the keys; never changes while somebody else holds it.
pub(super) type Chunk = Arc<Vec<KeyEntry>>;

impl Image {
    /// Adds a key, or replaces it.
    pub(super) fn put(&mut self, entry: KeyEntry) {
        if let Some(&(chunk, place)) = self.index.get(&entry.uid) {
            if let Some(old) = self.chunks.get_mut(chunk).and_then(|c| Arc::make_mut(c).get_mut(place)) {
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
        let (uid, place) = (entry.uid, last.len());
        Arc::make_mut(last).push(entry);
        self.index.insert(uid, (self.chunks.len() - 1, place));
    }

    /// What is known of a key.
    pub(super) fn get(&self, uid: &Uid) -> Option<&KeyEntry> {
        let (chunk, place) = self.index.get(uid)?;
        self.chunks.get(*chunk)?.get(*place)
    }

    /// Whether it knows that token.
    pub(super) fn has(&self, token: &WithheldToken) -> bool {
        self.get(&token.key).is_some_and(|key| key.tokens.iter().any(|known| known.digest == token.digest))
    }

    /// All of it, as it is now.
    pub(super) fn snapshot(&self) -> Vec<Chunk> {
        self.chunks.clone()
    }

    /// How many keys it has.
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
            name: KeyName::parse("name", &format!("projects/6666/keys/k{n}")).unwrap(),
            platform: Platform::Server,
            active,
            expire_time: None,
            tokens: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_does_not_move_when_the_image_does() {
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
        assert!(Arc::ptr_eq(&before[1], &image.snapshot()[1]), "chunks without a change are shared");
    }
}
