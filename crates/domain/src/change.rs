use keyward_token::Digest;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::credential::CredentialName;
use crate::filter::TextMatch;
use crate::id::{KeyName, MemberId, ProjectId, Uid};
use crate::issuance::Issuance;
use crate::key::{Key, KeyState, Platform};
use crate::log::{Epoch, Revision};
use crate::member::{Member, RoleBinding};
use crate::project::Project;
use crate::time::Timestamp;

/// A token of a key, as validators know it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// The digest that the token is looked up by.
    #[serde(with = "digest_hex")]
    pub digest: Digest,
    /// Id of the digest key that made it.
    pub digest_key_id: u32,
    /// Number of the token among the key's, from 1.
    pub generation: u32,
    /// The token is superseded from this instant on (inclusive).
    pub not_after: Option<Timestamp>,
}

/// A token of a key as the change log records it: every column of its row.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The part that validators know.
    #[serde(flatten)]
    pub entry: TokenEntry,
    /// When it was made. Absent in log entries written before 2026-11-24, which have no `sealed` either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// Fingerprint of the sealed token, in hexadecimal, which makes a change of its row detectable. Absent if the token is not
    /// stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// A key with its tokens, as the change log records it after a change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key.
    pub key: Key,
    /// Its tokens, in the order of their generations.
    pub tokens: Vec<TokenRecord>,
}

/// A key with its tokens, as validators know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyEntry {
    /// The key's uid.
    pub uid: Uid,
    /// Resource name.
    pub name: KeyName,
    /// Where its tokens are used.
    pub platform: Platform,
    /// `true` if the key is active.
    pub active: bool,
    /// The key is expired from this instant on (inclusive).
    pub expire_time: Option<Timestamp>,
    /// Its tokens.
    pub tokens: Vec<TokenEntry>,
}

impl From<KeyRecord> for KeyEntry {
    fn from(record: KeyRecord) -> Self {
        Self {
            uid: record.key.uid,
            name: record.key.name,
            platform: record.key.platform,
            active: record.key.state == KeyState::Active,
            expire_time: record.key.expire_time,
            tokens: record.tokens.into_iter().map(|token| token.entry).collect(),
        }
    }
}

/// A withheld token: a lost history of the database denied it. Validators deny it although the present history may accept
/// it, until an owner accepts the epoch.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WithheldToken {
    /// The key that it belongs to.
    pub key: Uid,
    /// The digest that it is looked up by.
    #[serde(with = "digest_hex")]
    pub digest: Digest,
    /// It is denied from this instant on (inclusive).
    pub from: Timestamp,
}

impl KeyEntry {
    /// The key's tokens that are denied now or from a known instant on.
    pub fn ends(&self) -> impl Iterator<Item = WithheldToken> {
        self.tokens.iter().filter_map(|token| {
            let end = [token.not_after, self.expire_time].into_iter().flatten().min();
            let from = if self.active { end? } else { Timestamp::MIN };
            Some(WithheldToken { key: self.uid, digest: token.digest, from })
        })
    }
}

/// The change that one transaction made. Stored as JSON in the change log, so variants and fields may be added but never
/// renamed or removed.
#[derive(Clone, Debug, Deserialize, Eq, IntoStaticStr, PartialEq, Serialize, VariantNames)]
#[serde(tag = "change", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Change {
    /// A project and its default key were created.
    ProjectCreated {
        /// The project.
        project: Project,
        /// Its default key.
        default_key: Box<KeyRecord>,
    },
    /// A key was created.
    KeyCreated {
        /// The key.
        key: Box<KeyRecord>,
    },
    /// A key's description, annotations, expiry or schedule changed.
    KeyUpdated {
        /// The key before.
        before: Box<Key>,
        /// The key after.
        after: Box<KeyRecord>,
    },
    /// A key was created that replaces another.
    KeyRotated {
        /// The replaced key before.
        before: Box<Key>,
        /// The replaced key after: linked to the new one, and perhaps with a scheduled deactivation.
        after: Box<KeyRecord>,
        /// The new key.
        key: Box<KeyRecord>,
    },
    /// A default key got a new token.
    TokenRotated {
        /// The key before.
        before: Box<Key>,
        /// The key after.
        after: Box<KeyRecord>,
    },
    /// A key's token was revealed. No row changed.
    TokenRevealed {
        /// The key.
        name: KeyName,
        /// The generation of the token.
        generation: u32,
    },
    /// A deactivated key was activated again.
    KeyActivated {
        /// The key before.
        before: Box<Key>,
        /// The key after.
        after: Box<KeyRecord>,
    },
    /// A key was deactivated.
    KeyDeactivated {
        /// The key before.
        before: Box<Key>,
        /// The key after.
        after: Box<KeyRecord>,
    },
    /// A member was created, with one credential.
    MemberCreated {
        /// The member.
        member: Member,
        /// The digest of its first credential.
        #[serde(with = "digest_hex")]
        credential: Digest,
        /// Id of the digest key that made the digest. Absent in log entries written before 2026-11-24.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_key_id: Option<u32>,
    },
    /// A member was granted a role.
    RoleGranted {
        /// The member after the change.
        after: Member,
        /// The role.
        role: RoleBinding,
    },
    /// A role of a member was revoked.
    RoleRevoked {
        /// The member after the change.
        after: Member,
        /// The role.
        role: RoleBinding,
    },
    /// A member was issued one more credential.
    CredentialIssued {
        /// The member.
        member: MemberId,
        /// Its digest.
        #[serde(with = "digest_hex")]
        credential: Digest,
        /// Id of the digest key that made the digest.
        digest_key_id: u32,
    },
    /// A credential was revoked.
    CredentialRevoked {
        /// The member.
        member: MemberId,
        /// Its digest.
        #[serde(with = "digest_hex")]
        credential: Digest,
    },
    /// The database lost changes that an admin or a validator had seen. Its history continues in a new epoch.
    HistoryForked {
        /// The epoch before.
        former: Epoch,
        /// The epoch of the lost changes; usually equal to `former`.
        lost: Epoch,
        /// The newest revision of the lost changes that was seen.
        known: Revision,
        /// The new epoch.
        epoch: Epoch,
    },
    /// Tokens that the lost history denied, and this one does not, stay denied until the epoch is accepted.
    TokensWithheld {
        /// The epoch.
        epoch: Epoch,
        /// The keys that they belong to.
        keys: Vec<KeyName>,
        /// The tokens.
        tokens: Vec<WithheldToken>,
    },
    /// An owner accepted the epoch: no token is denied any more because of a lost history.
    EpochAccepted {
        /// The epoch.
        epoch: Epoch,
    },
    /// A key's token was returned again, to a retry of the request that had created the key. No row changed.
    TokenReplayed {
        /// The key.
        name: KeyName,
        /// The generation of the token.
        generation: u32,
        /// The method of the request.
        method: Issuance,
    },
    /// A credential was returned again, to a retry of the request that had issued it. No row changed.
    CredentialReplayed {
        /// The member.
        member: MemberId,
        /// Its digest.
        #[serde(with = "digest_hex")]
        credential: Digest,
        /// The method of the request.
        method: Issuance,
    },
}

/// The resource name of an epoch.
fn epoch_name(epoch: &Epoch) -> String {
    format!("epochs/{epoch}")
}

impl Change {
    /// The resource name of what changed.
    pub fn resource(&self) -> String {
        match self {
            Self::ProjectCreated { project, .. } => project.id.name(),
            // The new key, as in every creation. The entry has the replaced one.
            Self::KeyRotated { key, .. } => key.key.name.to_string(),
            Self::KeyCreated { key } => key.key.name.to_string(),
            Self::KeyUpdated { after, .. }
            | Self::TokenRotated { after, .. }
            | Self::KeyActivated { after, .. }
            | Self::KeyDeactivated { after, .. } => after.key.name.to_string(),
            Self::TokenRevealed { name, .. } | Self::TokenReplayed { name, .. } => name.to_string(),
            Self::MemberCreated { member, .. } => member.id.name(),
            Self::RoleGranted { after, .. } | Self::RoleRevoked { after, .. } => after.id.name(),
            Self::CredentialIssued { member, .. }
            | Self::CredentialRevoked { member, .. }
            | Self::CredentialReplayed { member, .. } => member.name(),
            Self::HistoryForked { epoch, .. } | Self::TokensWithheld { epoch, .. } | Self::EpochAccepted { epoch } => {
                epoch_name(epoch)
            }
        }
    }

    /// What the resource name of every change begins with.
    pub const COLLECTIONS: &'static [&'static str] = &["projects/", "members/", "epochs/"];

    /// The names of all kinds of change, as in the log.
    pub const KINDS: &'static [&'static str] = Self::VARIANTS;

    /// The name of the change's kind in the log, such as `key_created`.
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// The project whose log the change belongs to; `None` for changes of the deployment.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::ProjectCreated { project, .. } => Some(&project.id),
            Self::KeyRotated { key, .. } | Self::KeyCreated { key } => Some(&key.key.name.project),
            Self::KeyUpdated { after, .. }
            | Self::TokenRotated { after, .. }
            | Self::KeyActivated { after, .. }
            | Self::KeyDeactivated { after, .. } => Some(&after.key.name.project),
            Self::TokenRevealed { name, .. } | Self::TokenReplayed { name, .. } => Some(&name.project),
            Self::RoleGranted { role, .. } | Self::RoleRevoked { role, .. } => role.project.as_ref(),
            Self::MemberCreated { .. }
            | Self::CredentialIssued { .. }
            | Self::CredentialRevoked { .. }
            | Self::CredentialReplayed { .. }
            | Self::HistoryForked { .. }
            | Self::TokensWithheld { .. }
            | Self::EpochAccepted { .. } => None,
        }
    }

    /// The keys that validators must update.
    pub fn into_entries(self) -> Vec<KeyEntry> {
        match self {
            Self::ProjectCreated { default_key: record, .. }
            | Self::KeyCreated { key: record }
            | Self::KeyUpdated { after: record, .. }
            | Self::TokenRotated { after: record, .. }
            | Self::KeyActivated { after: record, .. }
            | Self::KeyDeactivated { after: record, .. } => vec![(*record).into()],
            Self::KeyRotated { after, key, .. } => vec![(*after).into(), (*key).into()],
            Self::TokenRevealed { .. }
            | Self::TokenReplayed { .. }
            | Self::CredentialReplayed { .. }
            | Self::MemberCreated { .. }
            | Self::RoleGranted { .. }
            | Self::RoleRevoked { .. }
            | Self::CredentialIssued { .. }
            | Self::CredentialRevoked { .. }
            | Self::HistoryForked { .. }
            | Self::TokensWithheld { .. }
            | Self::EpochAccepted { .. } => Vec::new(),
        }
    }
}

/// One entry of the change log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggedChange {
    /// Its number.
    pub revision: Revision,
    /// The hash chain's value at this revision.
    pub chain: [u8; 32],
    /// When it was committed, by the database's clock.
    pub time: Timestamp,
    /// The member that made the change.
    pub actor: MemberId,
    /// The change.
    pub change: Change,
}

/// One entry of the change log for display, which a newer version may have written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Its number.
    pub revision: Revision,
    /// When it was committed, by the database's clock.
    pub time: Timestamp,
    /// The member that made the change.
    pub actor: MemberId,
    /// The credential by which the change was made, under the member that the credential belongs to. That is not the actor if
    /// the credential was used under a forged row. Its member is `-` if the database lacks the credential. `None` if Keyward
    /// acted without one, and in entries written before 2026-11-28.
    pub credential: Option<CredentialName>,
    /// The resource name of what changed.
    pub resource: String,
    /// The change; `None` if it is of a kind that this version does not know.
    pub change: Option<Change>,
}

/// Selects the entries of a list of the change log: those that satisfy every part that is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventFilter {
    /// Only entries of this project's history.
    pub project: Option<ProjectId>,
    /// Only changes by this member.
    pub actor: Option<MemberId>,
    /// Only changes of this kind ([`Change::kind`]).
    pub kind: Option<&'static str>,
    /// Only changes of resources whose name matches.
    pub resource: Option<TextMatch>,
    /// Only entries from this instant on (inclusive).
    pub from: Option<Timestamp>,
    /// Only entries before this instant.
    pub before: Option<Timestamp>,
}

mod digest_hex {
    use keyward_token::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(digest.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(de::Error::custom)?;
        Ok(Digest::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::id::KeyId;

    #[test]
    fn a_change_reads_back_from_the_log_as_it_was_written() {
        let key = Key {
            uid: Uid::generate(),
            name: KeyName {
                project: ProjectId::from_store("6666".to_owned()),
                key: KeyId::from_store("server_prod".to_owned()),
            },
            state: KeyState::Active,
            default_key: false,
            description: "café".to_owned(),
            platform: Platform::Ios,
            last4: "9fQ2".to_owned(),
            creator: MemberId::root(),
            create_time: Timestamp::from_micros(1),
            update_time: Timestamp::from_micros(2),
            deactivator: None,
            deactivate_time: None,
            expire_time: Some(Timestamp::from_micros(3)),
            schedule: None,
            replaces: None,
            replaced_by: None,
            annotations: [("team".to_owned(), "edge".to_owned())].into(),
            create_revision: Revision(4),
            revision: Revision(5),
        };
        let entry = TokenEntry {
            digest: Digest::from_bytes([7; 32]),
            digest_key_id: 1,
            generation: 1,
            not_after: Some(Timestamp::from_micros(9)),
        };
        let token =
            TokenRecord { entry, create_time: Some(Timestamp::from_micros(1)), sealed: Some("00ff".to_owned()) };
        let change = Change::KeyCreated { key: Box::new(KeyRecord { key, tokens: vec![token] }) };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
        // ListEvents filters by kind with a prefix match on the JSON text.
        assert!(text.starts_with(&format!("{{\"change\":\"{}\",", change.kind())), "{text}");
    }

    #[test]
    fn the_names_of_kinds_are_the_tags_in_the_log() {
        for kind in Change::KINDS {
            let error = serde_json::from_str::<Change>(&format!("{{\"change\":\"{kind}\"}}")).unwrap_err().to_string();
            assert!(error.contains("missing field"), "{kind}: {error}");
        }
        let error = serde_json::from_str::<Change>("{\"change\":\"nonesuch\"}").unwrap_err().to_string();
        assert_eq!(error.matches('`').count() / 2 - 1, Change::KINDS.len(), "{error}");
    }

    #[test]
    fn an_entry_without_the_details_of_tokens_is_still_read() {
        let digest = "07".repeat(32);
        let text = format!(r#"{{"digest":"{digest}","digest_key_id":1,"generation":1,"not_after":null}}"#);
        let token: TokenRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(token.entry.digest, Digest::from_bytes([7; 32]));
        assert_eq!((token.create_time, token.sealed.as_deref()), (None, None));
        assert_eq!(serde_json::to_string(&token).unwrap(), text);
    }
}
