use keyward_token::Digest;
use serde::{Deserialize, Serialize};

use crate::filter::TextMatch;
use crate::id::{KeyName, MemberId, ProjectId, Uid};
use crate::key::{Key, KeyState, Platform};
use crate::log::{Epoch, Revision};
use crate::member::{Member, RoleBinding};
use crate::project::Project;
use crate::time::Timestamp;

/// One token of a key, as its digest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// What tokens are looked up by.
    #[serde(with = "digest_hex")]
    pub digest: Digest,
    /// Which digest key made it.
    pub digest_key_id: u32,
    /// 1 for the first token of the key.
    pub generation: u32,
    /// From this instant on (inclusive) the token is superseded.
    pub not_after: Option<Timestamp>,
}

/// One token of a key with everything that its row says: what the change log keeps of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What validators know of it.
    #[serde(flatten)]
    pub entry: TokenEntry,
    /// When it was made. Absent in entries of before 2026-11-24; then `sealed` says nothing either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// Fingerprint of the sealed token, in hexadecimal digits, so that its row cannot be changed unnoticed; absent when
    /// the token is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// A key with its tokens: the after-image that the change log keeps.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key.
    pub key: Key,
    /// Its tokens, by generation.
    pub tokens: Vec<TokenRecord>,
}

/// What a validator knows of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyEntry {
    /// The key's uid.
    pub uid: Uid,
    /// Resource name.
    pub name: KeyName,
    /// Where its tokens live.
    pub platform: Platform,
    /// Whether it is active.
    pub active: bool,
    /// From this instant on (inclusive) it is expired.
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

/// A token that is refused for what a former history said of it, whatever the database says now.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WithheldToken {
    /// Whose it is.
    pub key: Uid,
    /// What it is looked up by.
    #[serde(with = "digest_hex")]
    pub digest: Digest,
    /// From this instant on (inclusive).
    pub from: Timestamp,
}

impl KeyEntry {
    /// Its tokens that are refused, or will be.
    pub fn ends(&self) -> impl Iterator<Item = WithheldToken> {
        self.tokens.iter().filter_map(|token| {
            let end = [token.not_after, self.expire_time].into_iter().flatten().min();
            let from = if self.active { end? } else { Timestamp::MIN };
            Some(WithheldToken { key: self.uid, digest: token.digest, from })
        })
    }
}

/// What one transaction did. Stored as JSON in the change log: variants and fields are only ever added.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A project and its default key came to be.
    ProjectCreated {
        /// The project.
        project: Project,
        /// Its default key.
        default_key: Box<KeyRecord>,
    },
    /// A key came to be.
    KeyCreated {
        /// The key.
        key: Box<KeyRecord>,
    },
    /// What a key says, or when it expires, was changed.
    KeyUpdated {
        /// Before.
        before: Box<Key>,
        /// After.
        after: Box<KeyRecord>,
    },
    /// A key came to be that replaces another.
    KeyRotated {
        /// The other one before.
        before: Box<Key>,
        /// The other one after: linked, and perhaps with a schedule.
        after: Box<KeyRecord>,
        /// The new one.
        key: Box<KeyRecord>,
    },
    /// A default key got a new token.
    TokenRotated {
        /// Before.
        before: Box<Key>,
        /// After.
        after: Box<KeyRecord>,
    },
    /// A key's token was shown in clear. Nothing changed.
    TokenRevealed {
        /// Whose token.
        name: KeyName,
        /// Which of its tokens.
        generation: u32,
    },
    /// A deactivated key was made active again.
    KeyActivated {
        /// Before.
        before: Box<Key>,
        /// After.
        after: Box<KeyRecord>,
    },
    /// A key was deactivated.
    KeyDeactivated {
        /// Before.
        before: Box<Key>,
        /// After.
        after: Box<KeyRecord>,
    },
    /// A member came to be, with one credential.
    MemberCreated {
        /// The member.
        member: Member,
        /// The digest of its first credential.
        #[serde(with = "digest_hex")]
        credential: Digest,
        /// Which digest key made the digest. Absent in entries of before 2026-11-24.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_key_id: Option<u32>,
    },
    /// A member got a role.
    RoleGranted {
        /// The member after.
        after: Member,
        /// The role.
        role: RoleBinding,
    },
    /// A role was taken from a member.
    RoleRevoked {
        /// The member after.
        after: Member,
        /// The role.
        role: RoleBinding,
    },
    /// A member got one more credential.
    CredentialIssued {
        /// Whose it is.
        member: MemberId,
        /// Its digest.
        #[serde(with = "digest_hex")]
        credential: Digest,
        /// Which digest key made the digest.
        digest_key_id: u32,
    },
    /// A credential was revoked.
    CredentialRevoked {
        /// Whose it was.
        member: MemberId,
        /// Its digest.
        #[serde(with = "digest_hex")]
        credential: Digest,
    },
    /// The database was found to have lost changes that somebody had seen, and its history got an epoch of its own.
    HistoryForked {
        /// The epoch that it had.
        former: Epoch,
        /// The epoch whose changes are lost; mostly the same.
        lost: Epoch,
        /// How far the one who had seen them had come.
        known: Revision,
        /// The new epoch.
        epoch: Epoch,
    },
    /// Tokens that a former history refused, and this one does not, are refused until the epoch is accepted.
    TokensWithheld {
        /// The epoch.
        epoch: Epoch,
        /// Whose they are.
        keys: Vec<KeyName>,
        /// The tokens.
        tokens: Vec<WithheldToken>,
    },
    /// The database was accepted as it is: no token is refused any more for what a former history said.
    EpochAccepted {
        /// The epoch.
        epoch: Epoch,
    },
}

/// The resource name of an epoch.
fn epoch_name(epoch: &Epoch) -> String {
    format!("epochs/{epoch}")
}

impl Change {
    /// The resource that it is about.
    pub fn resource(&self) -> String {
        match self {
            Self::ProjectCreated { project, .. } => project.id.name(),
            // The new key, as in any creation; the old one is in the entry.
            Self::KeyRotated { key, .. } => key.key.name.to_string(),
            Self::KeyCreated { key } => key.key.name.to_string(),
            Self::KeyUpdated { after, .. }
            | Self::TokenRotated { after, .. }
            | Self::KeyActivated { after, .. }
            | Self::KeyDeactivated { after, .. } => after.key.name.to_string(),
            Self::TokenRevealed { name, .. } => name.to_string(),
            Self::MemberCreated { member, .. } => member.id.name(),
            Self::RoleGranted { after, .. } | Self::RoleRevoked { after, .. } => after.id.name(),
            Self::CredentialIssued { member, .. } | Self::CredentialRevoked { member, .. } => member.name(),
            Self::HistoryForked { epoch, .. } | Self::TokensWithheld { epoch, .. } | Self::EpochAccepted { epoch } => {
                epoch_name(epoch)
            }
        }
    }

    /// Every kind of change, as the log names them.
    pub const KINDS: [&'static str; 16] = [
        "project_created",
        "key_created",
        "key_updated",
        "key_rotated",
        "token_rotated",
        "token_revealed",
        "key_activated",
        "key_deactivated",
        "member_created",
        "role_granted",
        "role_revoked",
        "credential_issued",
        "credential_revoked",
        "history_forked",
        "tokens_withheld",
        "epoch_accepted",
    ];

    /// What kind of change it is, as the log names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ProjectCreated { .. } => "project_created",
            Self::KeyCreated { .. } => "key_created",
            Self::KeyUpdated { .. } => "key_updated",
            Self::KeyRotated { .. } => "key_rotated",
            Self::TokenRotated { .. } => "token_rotated",
            Self::TokenRevealed { .. } => "token_revealed",
            Self::KeyActivated { .. } => "key_activated",
            Self::KeyDeactivated { .. } => "key_deactivated",
            Self::MemberCreated { .. } => "member_created",
            Self::RoleGranted { .. } => "role_granted",
            Self::RoleRevoked { .. } => "role_revoked",
            Self::CredentialIssued { .. } => "credential_issued",
            Self::CredentialRevoked { .. } => "credential_revoked",
            Self::HistoryForked { .. } => "history_forked",
            Self::TokensWithheld { .. } => "tokens_withheld",
            Self::EpochAccepted { .. } => "epoch_accepted",
        }
    }

    /// The project in whose history it belongs, if in one's.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::ProjectCreated { project, .. } => Some(&project.id),
            Self::KeyRotated { key, .. } | Self::KeyCreated { key } => Some(&key.key.name.project),
            Self::KeyUpdated { after, .. }
            | Self::TokenRotated { after, .. }
            | Self::KeyActivated { after, .. }
            | Self::KeyDeactivated { after, .. } => Some(&after.key.name.project),
            Self::TokenRevealed { name, .. } => Some(&name.project),
            Self::RoleGranted { role, .. } | Self::RoleRevoked { role, .. } => role.project.as_ref(),
            Self::MemberCreated { .. }
            | Self::CredentialIssued { .. }
            | Self::CredentialRevoked { .. }
            | Self::HistoryForked { .. }
            | Self::TokensWithheld { .. }
            | Self::EpochAccepted { .. } => None,
        }
    }

    /// The keys that validators must know anew.
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
    /// Its position.
    pub revision: Revision,
    /// The hash chain's value at this revision.
    pub chain: [u8; 32],
    /// When it was committed, by the database's clock.
    pub time: Timestamp,
    /// Who did it.
    pub actor: MemberId,
    /// What was done.
    pub change: Change,
}

/// One entry of the change log as it is, readable or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Its position.
    pub revision: Revision,
    /// When it was committed, by the database's clock.
    pub time: Timestamp,
    /// Who did it.
    pub actor: MemberId,
    /// What it was done to.
    pub resource: String,
    /// What was done; `None`: of a kind that this version does not know.
    pub change: Option<Change>,
}

/// Which entries of the change log a list is to have: those that satisfy every part that is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventFilter {
    /// Only those of this project's history.
    pub project: Option<ProjectId>,
    /// Only what this member did.
    pub actor: Option<MemberId>,
    /// Only this kind, as [`Change::kind`] names it.
    pub kind: Option<&'static str>,
    /// Only what was done to such resources.
    pub resource: Option<TextMatch>,
    /// Only from this instant on.
    pub from: Option<Timestamp>,
    /// Only before this instant.
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
    fn a_change_survives_the_log_unaltered() {
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
        // The list of entries finds the kind of a change by how its text begins.
        assert!(text.starts_with(&format!("{{\"change\":\"{}\",", change.kind())), "{text}");
    }

    #[test]
    fn the_list_of_kinds_has_what_the_log_knows() {
        for kind in Change::KINDS {
            let error = serde_json::from_str::<Change>(&format!("{{\"change\":\"{kind}\"}}")).unwrap_err().to_string();
            assert!(error.contains("missing field"), "{kind}: {error}");
        }
        let error = serde_json::from_str::<Change>("{\"change\":\"nonesuch\"}").unwrap_err().to_string();
        assert_eq!(error.matches('`').count() / 2 - 1, Change::KINDS.len(), "{error}");
    }

    #[test]
    fn an_entry_of_before_the_details_of_tokens_is_still_read() {
        let digest = "07".repeat(32);
        let text = format!(r#"{{"digest":"{digest}","digest_key_id":1,"generation":1,"not_after":null}}"#);
        let token: TokenRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(token.entry.digest, Digest::from_bytes([7; 32]));
        assert_eq!((token.create_time, token.sealed.as_deref()), (None, None));
        assert_eq!(serde_json::to_string(&token).unwrap(), text);
    }
}
