use keyward_token::Digest;
use serde::{Deserialize, Serialize};

use crate::change::Change;

/// What one entry of the change log has as JSON: the change, and the credential by which it was made.
///
/// The credential is one more field of the JSON object of the change. Versions before 2026-11-28 do not write it, and ignore
/// it when they read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The change.
    pub change: Change,
    /// The digest of the credential that authenticated the member. `None` if Keyward itself acted in the member's name or in
    /// its own, and in entries written before 2026-11-28.
    pub credential: Option<Digest>,
}

#[derive(Serialize)]
struct Written<'a> {
    // First, because searches in the log rely on the kind of the change being the first field.
    #[serde(flatten)]
    change: &'a Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_credential: Option<String>,
}

#[derive(Deserialize)]
struct Author {
    by_credential: Option<String>,
}

impl Entry {
    /// The JSON of an entry.
    ///
    /// # Errors
    /// The change cannot be represented in JSON, which no change of this version causes.
    pub fn to_json(change: &Change, credential: Option<&Digest>) -> serde_json::Result<String> {
        let by_credential = credential.map(|digest| hex::encode(digest.as_bytes()));
        serde_json::to_string(&Written { change, by_credential })
    }

    /// Reads the JSON of an entry.
    ///
    /// # Errors
    /// The text is not an entry that this version knows.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let Author { by_credential } = serde_json::from_str(text)?;
        let credential = by_credential
            .map(|text| to_digest(&text))
            .transpose()
            .map_err(<serde_json::Error as serde::de::Error>::custom)?;
        Ok(Self { change: serde_json::from_str(text)?, credential })
    }
}

fn to_digest(text: &str) -> Result<Digest, hex::FromHexError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)?;
    Ok(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::id::{KeyId, KeyName, ProjectId};

    fn change() -> Change {
        let key = KeyId::from_store("a".to_owned());
        Change::TokenRevealed {
            name: KeyName { project: ProjectId::from_store("6666".to_owned()), key },
            generation: 1,
        }
    }

    #[test]
    fn an_entry_reads_back_with_its_credential() {
        for credential in [None, Some(Digest::from_bytes([7; 32]))] {
            let text = Entry::to_json(&change(), credential.as_ref()).unwrap();
            assert!(text.starts_with(r#"{"change":"token_revealed","#), "{text}");
            assert_eq!(Entry::from_json(&text).unwrap(), Entry { change: change(), credential });
        }
    }

    #[test]
    fn versions_without_credentials_in_entries_read_new_entries_and_write_entries_that_are_read() {
        let new = Entry::to_json(&change(), Some(&Digest::from_bytes([7; 32]))).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&new).unwrap(), change());
        let old = serde_json::to_string(&change()).unwrap();
        assert_eq!(Entry::to_json(&change(), None).unwrap(), old);
        assert_eq!(Entry::from_json(&old).unwrap().credential, None);
    }

    #[test]
    fn an_entry_with_an_unreadable_credential_is_not_read() {
        let text = Entry::to_json(&change(), None).unwrap();
        for bad in ["\"\"", "\"zz\"", "1"] {
            let text = format!("{},\"by_credential\":{bad}}}", text.trim_end_matches('}'));
            assert!(Entry::from_json(&text).is_err(), "{text}");
        }
    }
}
