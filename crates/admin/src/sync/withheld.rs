use std::collections::HashMap;
use std::sync::Arc;

use keyward_domain::{KeyEntry, Timestamp, Uid, WithheldToken};
use keyward_proto::replica;
use keyward_sync::wire;
use keyward_token::Digest;

/// Tokens that are denied because a lost history denied them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Withheld(Arc<HashMap<Digest, WithheldToken>>);

impl Withheld {
    /// Adds tokens.
    pub(super) fn extend(&mut self, tokens: impl IntoIterator<Item = WithheldToken>) {
        Arc::make_mut(&mut self.0).extend(tokens.into_iter().map(|token| (token.digest, token)));
    }

    /// The keys of the tokens.
    pub(super) fn keys(&self) -> impl Iterator<Item = Uid> {
        self.0.values().map(|token| token.key)
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A copy of the key in which each withheld token ends no later than in the lost history.
    pub(super) fn apply(&self, entry: &KeyEntry) -> KeyEntry {
        let mut entry = entry.clone();
        for token in &mut entry.tokens {
            let from = self.0.get(&token.digest).map(|held| held.from);
            token.not_after = [token.not_after, from].into_iter().flatten().min();
        }
        entry
    }

    /// Returns `true` if the newest token of the key is withheld at an instant of the database's clock.
    pub(super) fn is_withheld(&self, entry: &KeyEntry, now: Timestamp) -> bool {
        let newest = entry.tokens.iter().max_by_key(|token| token.generation);
        newest.and_then(|token| self.0.get(&token.digest)).is_some_and(|held| held.from <= now)
    }

    /// Encodes a key for validators.
    pub(super) fn encode(&self, entry: &KeyEntry) -> replica::KeyEntry {
        // Usually no token is withheld, and no copy is needed.
        if self.0.is_empty() { wire::key_entry(entry) } else { wire::key_entry(&self.apply(entry)) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use keyward_domain::{KeyName, Platform, TokenEntry};

    use super::*;

    #[test]
    fn a_withheld_token_ends_at_the_earlier_of_both_instants_and_no_other_token_does() {
        let token = |n: u8, not_after: Option<i64>| TokenEntry {
            digest: Digest::from_bytes([n; 32]),
            digest_key_id: 1,
            generation: n.into(),
            not_after: not_after.map(Timestamp::from_micros),
        };
        let key = Uid::generate();
        let entry = KeyEntry {
            uid: key,
            name: KeyName::parse("projects/6666/keys/a").unwrap(),
            platform: Platform::Server,
            active: true,
            expire_time: None,
            tokens: vec![token(1, None), token(2, Some(5)), token(3, Some(50)), token(4, None)],
        };
        let mut withheld = Withheld::default();
        let from = Timestamp::from_micros(9);
        withheld.extend((1..=3).map(|n| WithheldToken { key, digest: Digest::from_bytes([n; 32]), from }));
        let ends: Vec<_> =
            withheld.apply(&entry).tokens.iter().map(|t| t.not_after.map(Timestamp::as_micros)).collect();
        assert_eq!(ends, [Some(9), Some(5), Some(9), None]);
        assert_eq!((withheld.keys().count(), withheld.len()), (3, 3));
        // The newest token is the fourth one, which is not withheld.
        let (before, of_older) =
            (Timestamp::from_micros(8), KeyEntry { tokens: entry.tokens[..3].to_vec(), ..entry.clone() });
        assert!(!withheld.is_withheld(&entry, from));
        assert!(withheld.is_withheld(&of_older, from) && !withheld.is_withheld(&of_older, before));
    }
}
