use std::collections::HashMap;

use keyward_domain::{Change, KeyRecord, Member, MemberId, Project, Timestamp, TokenRecord, Uid};
use keyward_token::Digest;
use serde::Serialize;

/// A row's content, as a fingerprint: a million keys are too many to hold.
type Fingerprint = [u8; 32];

/// What the rows must be, by the log.
#[derive(Debug, Default)]
pub(super) struct Expected {
    projects: HashMap<String, Fingerprint>,
    keys: HashMap<Uid, ExpectedKey>,
    members: HashMap<String, Fingerprint>,
    credentials: HashMap<Digest, Credential>,
}

#[derive(Debug)]
struct ExpectedKey {
    content: Fingerprint,
    /// Whether the log has all of its tokens' rows; entries of before 2026-11-24 have not.
    whole: bool,
}

/// A credential, as the log and its row tell of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Credential {
    pub(super) member: MemberId,
    pub(super) create_time: Timestamp,
    pub(super) revoke_time: Option<Timestamp>,
    /// `None`: an entry of before 2026-11-24, which does not say.
    pub(super) digest_key_id: Option<i64>,
}

impl Expected {
    /// Takes the next entry of the log in.
    pub(super) fn apply(&mut self, change: Change, time: Timestamp) {
        match change {
            Change::ProjectCreated { project, default_key } => {
                self.projects.insert(project.id.to_string(), fingerprint(&project));
                self.put_key(&default_key);
            }
            Change::KeyCreated { key: record }
            | Change::KeyUpdated { after: record, .. }
            | Change::TokenRotated { after: record, .. }
            | Change::KeyActivated { after: record, .. }
            | Change::KeyDeactivated { after: record, .. } => self.put_key(&record),
            Change::KeyRotated { after, key, .. } => {
                self.put_key(&after);
                self.put_key(&key);
            }
            Change::TokenRevealed { .. } => {}
            Change::MemberCreated { member, credential, digest_key_id } => {
                self.put_credential(credential, &member.id, time, digest_key_id);
                self.put_member(&member);
            }
            Change::RoleGranted { after, .. } | Change::RoleRevoked { after, .. } => self.put_member(&after),
            Change::CredentialIssued { member, credential, digest_key_id } => {
                self.put_credential(credential, &member, time, Some(digest_key_id));
            }
            Change::CredentialRevoked { credential, .. } => {
                if let Some(expected) = self.credentials.get_mut(&credential) {
                    expected.revoke_time = Some(time);
                }
            }
        }
    }

    fn put_key(&mut self, record: &KeyRecord) {
        let whole = record.tokens.iter().all(|token| token.create_time.is_some());
        self.keys.insert(record.key.uid, ExpectedKey { content: fingerprint(record), whole });
    }

    fn put_member(&mut self, member: &Member) {
        self.members.insert(member.id.to_string(), fingerprint(member));
    }

    fn put_credential(&mut self, digest: Digest, member: &MemberId, time: Timestamp, digest_key_id: Option<u32>) {
        let digest_key_id = digest_key_id.map(i64::from);
        let credential = Credential { member: member.clone(), create_time: time, revoke_time: None, digest_key_id };
        self.credentials.insert(digest, credential);
    }

    /// Whether this is the project that the log has; it must come once.
    pub(super) fn take_project(&mut self, project: &Project) -> bool {
        self.projects.remove(project.id.as_str()) == Some(fingerprint(project))
    }

    /// The same for a key with its tokens; `None`: its rows are there, but cannot be read.
    pub(super) fn take_key(&mut self, uid: Uid, record: Option<KeyRecord>) -> bool {
        let (Some(expected), Some(mut record)) = (self.keys.remove(&uid), record) else { return false };
        if !expected.whole {
            record.tokens = record.tokens.into_iter().map(as_before).collect();
        }
        expected.content == fingerprint(&record)
    }

    /// The same for a member with its roles.
    pub(super) fn take_member(&mut self, id: &str, member: Option<&Member>) -> bool {
        let expected = self.members.remove(id);
        expected.is_some() && expected == member.map(fingerprint)
    }

    /// The same for a credential.
    pub(super) fn take_credential(&mut self, digest: &Digest, mut credential: Credential) -> bool {
        let Some(expected) = self.credentials.remove(digest) else { return false };
        if expected.digest_key_id.is_none() {
            credential.digest_key_id = None;
        }
        expected == credential
    }

    /// For how many of each table's rows the log has, no row came.
    pub(super) fn left(&self) -> [(&'static str, usize); 4] {
        [
            ("project", self.projects.len()),
            ("api_key", self.keys.len()),
            ("member", self.members.len()),
            ("credential", self.credentials.len()),
        ]
    }
}

/// A token as entries of before 2026-11-24 have it.
fn as_before(token: TokenRecord) -> TokenRecord {
    TokenRecord { create_time: None, sealed: None, ..token }
}

/// Equal for what is equal only: the text has every field, in order.
fn fingerprint(thing: &impl Serialize) -> Fingerprint {
    // Writing to memory does not fail, and these types have no map keys but strings.
    let text = serde_json::to_vec(thing).unwrap_or_default();
    *blake3::hash(&text).as_bytes()
}
