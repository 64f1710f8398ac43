//! Keys and withheld tokens as the replica protocol carries them: conversion between the wire message and the domain type, for
//! both ends.

use keyward_domain::{KeyEntry, KeyName, Platform, Timestamp, TokenEntry, Uid, WithheldToken};
use keyward_proto::replica;
use keyward_token::Digest;

/// The most tokens in one [`replica::WithheldTokens`].
pub const MAX_WITHHELD: usize = 500;

/// On the wire, 0 means "never". The instant 0 is encoded as the microsecond before it, so that an end stays an end.
fn micros_or_zero(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| if time.as_micros() == 0 { -1 } else { time.as_micros() })
}

fn nonzero_micros(micros: i64) -> Option<Timestamp> {
    (micros != 0).then(|| Timestamp::from_micros(micros))
}

/// Encodes a key.
pub fn key_entry(entry: &KeyEntry) -> replica::KeyEntry {
    let tokens = entry.tokens.iter().map(|token| replica::TokenEntry {
        digest: token.digest.as_bytes().to_vec(),
        digest_key_id: token.digest_key_id,
        generation: token.generation,
        not_after_micros: micros_or_zero(token.not_after),
    });
    replica::KeyEntry {
        uid: entry.uid.as_bytes().to_vec(),
        name: entry.name.to_string(),
        platform: entry.platform.as_str().to_owned(),
        active: entry.active,
        expire_time_micros: micros_or_zero(entry.expire_time),
        tokens: tokens.collect(),
    }
}

/// A message of the replica protocol with a missing or malformed field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable(
    /// The field.
    pub &'static str,
);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreadable {} in a message of the replica protocol", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Decodes a key.
///
/// # Errors
/// [`Unreadable`]: the admin is of another version, or defective.
pub fn from_key_entry(entry: replica::KeyEntry) -> Result<KeyEntry, Unreadable> {
    let tokens = entry.tokens.into_iter().map(|token| {
        Ok(TokenEntry {
            digest: Digest::try_from(token.digest.as_slice()).map_err(|_| Unreadable("digest"))?,
            digest_key_id: token.digest_key_id,
            generation: token.generation,
            not_after: nonzero_micros(token.not_after_micros),
        })
    });
    Ok(KeyEntry {
        uid: Uid::from_bytes(entry.uid.try_into().map_err(|_| Unreadable("uid"))?),
        name: KeyName::parse(&entry.name).map_err(|_| Unreadable("name"))?,
        platform: Platform::from_name(&entry.platform).ok_or(Unreadable("platform"))?,
        active: entry.active,
        expire_time: nonzero_micros(entry.expire_time_micros),
        tokens: tokens.collect::<Result<_, _>>()?,
    })
}

/// Encodes withheld tokens, as messages of at most [`MAX_WITHHELD`].
pub fn withheld_tokens(tokens: &[WithheldToken]) -> impl Iterator<Item = replica::WithheldTokens> {
    let encode = |token: &WithheldToken| replica::WithheldToken {
        digest: token.digest.as_bytes().to_vec(),
        key_uid: token.key.as_bytes().to_vec(),
        from_micros: token.from.as_micros(),
    };
    tokens
        .chunks(MAX_WITHHELD)
        .map(move |tokens| replica::WithheldTokens { tokens: tokens.iter().map(encode).collect() })
}

/// Decodes withheld tokens.
///
/// # Errors
/// [`Unreadable`]: the validator is of another version, or defective; also if there are more than [`MAX_WITHHELD`].
pub fn from_withheld_tokens(message: replica::WithheldTokens) -> Result<Vec<WithheldToken>, Unreadable> {
    if message.tokens.len() > MAX_WITHHELD {
        return Err(Unreadable("tokens"));
    }
    let decode = |token: replica::WithheldToken| {
        Ok(WithheldToken {
            key: Uid::from_bytes(token.key_uid.try_into().map_err(|_| Unreadable("key_uid"))?),
            digest: Digest::try_from(token.digest.as_slice()).map_err(|_| Unreadable("digest"))?,
            from: Timestamp::from_micros(token.from_micros),
        })
    };
    message.tokens.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_key_entry_is_decoded_as_it_was_encoded() {
        let entry = KeyEntry {
            uid: Uid::generate(),
            name: KeyName::parse("projects/6666/keys/server_prod").unwrap(),
            platform: Platform::Android,
            active: true,
            expire_time: Some(Timestamp::from_micros(5)),
            tokens: vec![
                TokenEntry { digest: Digest::from_bytes([1; 32]), digest_key_id: 1, generation: 1, not_after: None },
                TokenEntry {
                    digest: Digest::from_bytes([2; 32]),
                    digest_key_id: 2,
                    generation: 2,
                    not_after: Some(Timestamp::from_micros(7)),
                },
            ],
        };
        assert_eq!(from_key_entry(key_entry(&entry)), Ok(entry));
    }

    #[test]
    fn an_end_at_the_instant_zero_stays_an_end() {
        let end = nonzero_micros(micros_or_zero(Some(Timestamp::from_micros(0))));
        assert_eq!(end, Some(Timestamp::from_micros(-1)));
        assert_eq!(nonzero_micros(micros_or_zero(None)), None);
    }

    #[test]
    fn withheld_tokens_are_decoded_as_they_were_encoded_and_split_into_bounded_messages() {
        let token = |from| WithheldToken { key: Uid::generate(), digest: Digest::from_bytes([3; 32]), from };
        let tokens: Vec<_> = (0..=MAX_WITHHELD as i64).map(|n| token(Timestamp::from_micros(i64::MIN + n))).collect();
        let messages: Vec<_> = withheld_tokens(&tokens).collect();
        assert_eq!(messages.iter().map(|message| message.tokens.len()).collect::<Vec<_>>(), [MAX_WITHHELD, 1]);
        let decoded = messages.into_iter().flat_map(|message| from_withheld_tokens(message).unwrap());
        assert_eq!(decoded.collect::<Vec<_>>(), tokens);
        let one = withheld_tokens(&tokens).next().unwrap().tokens.remove(0);
        let too_many = replica::WithheldTokens { tokens: vec![one; MAX_WITHHELD + 1] };
        assert_eq!(from_withheld_tokens(too_many), Err(Unreadable("tokens")));
    }
}
