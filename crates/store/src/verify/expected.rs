use std::collections::HashMap;

use keyward_domain::{
    Change, CredentialId, CredentialName, Epoch, Key, KeyName, KeyRecord, KeyState, Member, MemberId, Project,
    RoleBinding, Timestamp, TokenEntry, TokenRecord, Uid, WithheldToken,
};
use keyward_token::Digest;
use serde::Serialize;

use crate::convert::in_order;
use crate::sql::replay::FIRST;

/// Hash of the content of a row. Whole rows of a million keys would not fit in memory.
type Fingerprint = [u8; 32];

/// The first half of a [`Fingerprint`], of the name of a key.
type NameId = [u8; 16];

/// The rows that must exist, as the log implies them.
#[derive(Debug, Default)]
pub(super) struct Expected {
    projects: HashMap<String, Fingerprint>,
    keys: HashMap<Uid, ExpectedKey>,
    /// The keys by their names.
    names: HashMap<NameId, Uid>,
    /// The tokens of default keys. Other keys never get a second token.
    default_tokens: HashMap<Uid, Vec<TokenRecord>>,
    members: HashMap<String, Member>,
    credentials: HashMap<Digest, Credential>,
    forks: HashMap<Epoch, Fork>,
    withheld: HashMap<Digest, WithheldToken>,
    /// The current epoch; `None` if it is the first of the database, which no entry names.
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct ExpectedKey {
    key: Fingerprint,
    tokens: Fingerprint,
    /// `true` if the log has every column of its tokens. Entries written before 2026-11-24 lack some.
    complete: bool,
    /// `true` if it is not deactivated.
    active: bool,
    /// The generation of its newest token; 0 without a token.
    newest: u32,
    /// `true` if the token that it was created with has no end.
    has_first: bool,
}

/// A credential, as far as both the log and its row describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Credential {
    pub(super) member: MemberId,
    pub(super) create_time: Timestamp,
    pub(super) revoke_time: Option<Timestamp>,
    /// `None` if an entry of before 2026-11-24 created it, which lacks the id.
    pub(super) digest_key_id: Option<i64>,
}

/// A fork of the history, as both the log and its row describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fork {
    pub(super) former: Epoch,
    pub(super) lost: Epoch,
    pub(super) time: Timestamp,
    pub(super) accept_time: Option<Timestamp>,
}

impl Expected {
    /// Applies the next entry of the log. Returns the resources whose `before` image differs from the replayed state: Keyward
    /// copies the rows that it finds into the entry, so a row that was changed outside Keyward is found here.
    pub(super) fn apply(&mut self, change: Change, time: Timestamp) -> Vec<String> {
        let resource = change.resource();
        match change {
            Change::ProjectCreated { project, default_key } => {
                let new = self.projects.insert(project.id.to_string(), fingerprint(&project)).is_none();
                failing([(resource, new), (default_key.key.name.to_string(), self.create_key(&default_key))])
            }
            Change::KeyCreated { key } => failing([(resource, self.create_key(&key))]),
            Change::KeyUpdated { before, after }
            | Change::KeyActivated { before, after }
            | Change::KeyDeactivated { before, after } => failing([(resource, self.change_key(&before, &after))]),
            Change::TokenRotated { before, after } => failing([(resource, self.rotate_token(&before, &after))]),
            Change::KeyRotated { before, after, key } => failing([
                (before.name.to_string(), self.change_key(&before, &after)),
                (resource, self.create_key(&key)),
            ]),
            Change::TokenRevealed { name, generation } => {
                failing([(resource, self.named(&name).is_some_and(|(_, held)| held.newest == generation))])
            }
            Change::TokenReplayed { name, generation, .. } => {
                failing([(resource, generation == FIRST && self.can_be_replayed(&name, time))])
            }
            Change::CredentialReplayed { member, credential, .. } => {
                failing([(resource, self.has_credential(&member, &credential))])
            }
            Change::MemberCreated { member, credential, digest_key_id } => {
                let new = self.put_credential(credential, &member.id, time, digest_key_id);
                let new = self.members.insert(member.id.to_string(), member).is_none() && new;
                failing([(resource, new)])
            }
            Change::RoleGranted { after, role } => failing([(resource, self.change_roles(&after, &role, true))]),
            Change::RoleRevoked { after, role } => failing([(resource, self.change_roles(&after, &role, false))]),
            Change::CredentialIssued { member, credential, digest_key_id } => {
                failing([(resource, self.put_credential(credential, &member, time, Some(digest_key_id)))])
            }
            Change::CredentialRevoked { member, credential } => {
                failing([(resource, self.revoke_credential(&member, &credential, time))])
            }
            Change::HistoryForked { former, lost, epoch, .. } => {
                let follows = self.epoch.is_none_or(|current| current == former);
                let fork = Fork { former, lost, time, accept_time: None };
                let new = self.forks.insert(epoch, fork).is_none();
                self.epoch = Some(epoch);
                failing([(resource, follows && new)])
            }
            Change::TokensWithheld { epoch, tokens, .. } => {
                self.withheld.extend(tokens.into_iter().map(|token| (token.digest, token)));
                failing([(resource, self.epoch == Some(epoch))])
            }
            Change::EpochAccepted { epoch } => {
                self.withheld.clear();
                let fork = self.forks.get_mut(&epoch).filter(|_| self.epoch == Some(epoch));
                failing([(resource, fork.is_some_and(|fork| fork.accept_time.replace(time).is_none()))])
            }
        }
    }

    /// Returns `true` if the key and its name are new.
    fn create_key(&mut self, record: &KeyRecord) -> bool {
        let is_named = self.names.insert(name_id(&record.key.name), record.key.uid).is_some();
        self.put_key(record).is_none() && !is_named
    }

    /// The key with this name. An entry that names a key which the log does not have was written over rows that had been
    /// changed, such as a key that was moved to another project.
    fn named(&self, name: &KeyName) -> Option<(Uid, &ExpectedKey)> {
        let uid = self.names.get(&name_id(name))?;
        self.keys.get(uid).map(|held| (*uid, held))
    }

    /// Returns `true` if a retry at this time may get the token that the key was created with, by the rules of
    /// `sql/replay.rs`.
    fn can_be_replayed(&self, name: &KeyName, time: Timestamp) -> bool {
        let Some((uid, held)) = self.named(name) else { return false };
        let is_withheld = || self.withheld.values().any(|token| token.key == uid && token.from <= time);
        held.active && held.has_first && !is_withheld()
    }

    /// Returns `true` if the `before` image equals the replayed state and the tokens are unchanged.
    fn change_key(&mut self, before: &Key, after: &KeyRecord) -> bool {
        let held = self.put_key(after);
        held.is_some_and(|held| held.key == fingerprint(before) && held.tokens == held.of_tokens(&after.tokens))
            && before.uid == after.key.uid
    }

    /// Returns `true` if the `before` image equals the replayed state, and the key got one token more while the others end at
    /// the same time or earlier.
    fn rotate_token(&mut self, before: &Key, after: &KeyRecord) -> bool {
        let tokens = self.default_tokens.get(&before.uid).cloned().unwrap_or_default();
        let held = self.put_key(after);
        let Some((_, old)) = after.tokens.split_last() else { return false };
        let follow = tokens.len() == old.len() && tokens.iter().zip(old).all(|(then, now)| follows(then, now));
        held.is_some_and(|held| held.key == fingerprint(before)) && follow && before.uid == after.key.uid
    }

    fn put_key(&mut self, record: &KeyRecord) -> Option<ExpectedKey> {
        if record.key.default_key {
            self.default_tokens.insert(record.key.uid, record.tokens.clone());
        }
        let complete = record.tokens.iter().all(|token| token.create_time.is_some());
        let held = ExpectedKey {
            key: fingerprint(&record.key),
            tokens: fingerprint(&record.tokens),
            complete,
            active: record.key.state == KeyState::Active,
            newest: record.tokens.iter().map(|token| token.entry.generation).max().unwrap_or_default(),
            has_first: record
                .tokens
                .iter()
                .any(|token| token.entry.generation == FIRST && token.entry.not_after.is_none()),
        };
        self.keys.insert(record.key.uid, held)
    }

    /// Returns `true` if the member differs from the replayed state by this role only. Nothing else of the image is taken over:
    /// a role that another program had inserted permits nothing in later entries either.
    fn change_roles(&mut self, after: &Member, role: &RoleBinding, granted: bool) -> bool {
        let Some(held) = self.members.get_mut(after.id.as_str()) else { return false };
        let mut roles: Vec<_> = held.roles.iter().filter(|own| *own != role).cloned().collect();
        let had = roles.len() < held.roles.len();
        if granted {
            roles.push(role.clone());
        }
        held.roles = in_order(roles);
        had != granted && *held == *after
    }

    /// Returns `true` if the credential is new.
    fn put_credential(
        &mut self,
        digest: Digest,
        member: &MemberId,
        time: Timestamp,
        digest_key_id: Option<u32>,
    ) -> bool {
        let digest_key_id = digest_key_id.map(i64::from);
        let credential = Credential { member: member.clone(), create_time: time, revoke_time: None, digest_key_id };
        self.credentials.insert(digest, credential).is_none()
    }

    /// Returns `true` if the credential belonged to this member and was not revoked.
    fn revoke_credential(&mut self, member: &MemberId, digest: &Digest, time: Timestamp) -> bool {
        let Some(held) = self.credentials.get_mut(digest) else { return false };
        held.member == *member && held.revoke_time.replace(time).is_none()
    }

    /// Returns `true` if no member has been created yet.
    pub(super) fn is_without_members(&self) -> bool {
        self.members.is_empty()
    }

    /// The member with this id, with its roles.
    pub(super) fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id.as_str())
    }

    /// Returns `true` if the credential belongs to this member and is not revoked.
    pub(super) fn has_credential(&self, member: &MemberId, digest: &Digest) -> bool {
        self.credentials.get(digest).is_some_and(|held| held.member == *member && held.revoke_time.is_none())
    }

    /// Removes the project. Returns `true` if the row is as expected; each row must come once.
    pub(super) fn take_project(&mut self, project: &Project) -> bool {
        self.projects.remove(project.id.as_str()) == Some(fingerprint(project))
    }

    /// Removes the key and its tokens. Returns `true` if the rows are as expected; `record` is `None` if they are unreadable.
    pub(super) fn take_key(&mut self, uid: Uid, record: Option<KeyRecord>) -> bool {
        let (Some(held), Some(record)) = (self.keys.remove(&uid), record) else { return false };
        held.key == fingerprint(&record.key) && held.tokens == held.of_tokens(&record.tokens)
    }

    /// Removes the member and its roles. Returns `true` if the rows are as expected; `member` is `None` if they are unreadable.
    pub(super) fn take_member(&mut self, id: &str, member: Option<&Member>) -> bool {
        let held = self.members.remove(id);
        held.is_some() && held.as_ref() == member
    }

    /// Removes the credential. Returns `true` if the row is as expected.
    pub(super) fn take_credential(&mut self, digest: &Digest, mut credential: Credential) -> bool {
        let Some(expected) = self.credentials.remove(digest) else { return false };
        if expected.digest_key_id.is_none() {
            credential.digest_key_id = None;
        }
        expected == credential
    }

    /// Removes the fork. Returns `true` if the row is as expected.
    pub(super) fn take_fork(&mut self, epoch: &Epoch, fork: &Fork) -> bool {
        self.forks.remove(epoch).as_ref() == Some(fork)
    }

    /// Removes the withheld token. Returns `true` if the row is as expected.
    pub(super) fn take_withheld(&mut self, token: &WithheldToken) -> bool {
        self.withheld.remove(&token.digest).as_ref() == Some(token)
    }

    /// Returns `true` if the log can end in this epoch.
    pub(super) fn can_end_in(&self, epoch: Epoch) -> bool {
        self.epoch.is_none_or(|current| current == epoch)
    }

    /// The resources whose rows are missing.
    pub(super) fn without_rows(self) -> Vec<String> {
        let projects = self.projects.into_keys().map(|id| format!("projects/{id}"));
        let keys = self.keys.into_keys().map(|uid| format!("the key with uid {uid}"));
        let members = self.members.into_keys().map(|id| format!("members/{id}"));
        let credentials = self
            .credentials
            .into_iter()
            .map(|(digest, held)| CredentialName { member: held.member, id: CredentialId::of(&digest) }.to_string());
        let forks = self.forks.into_keys().map(|epoch| format!("epochs/{epoch}"));
        let withheld = self.withheld.into_values().map(|token| format!("a token of the key with uid {}", token.key));
        projects.chain(keys).chain(members).chain(credentials).chain(forks).chain(withheld).collect()
    }
}

impl ExpectedKey {
    /// The fingerprint of the columns of tokens that the log has.
    fn of_tokens(&self, tokens: &[TokenRecord]) -> Fingerprint {
        if self.complete {
            fingerprint(&tokens)
        } else {
            fingerprint(&tokens.iter().map(without_new_columns).collect::<Vec<_>>())
        }
    }
}

/// Returns `true` if `now` is the token `then`, and ends at the same time or earlier.
fn follows(then: &TokenRecord, now: &TokenRecord) -> bool {
    let end = |token: &TokenRecord| token.entry.not_after.unwrap_or(Timestamp::from_micros(i64::MAX));
    let now_known = if then.create_time.is_some() { now.clone() } else { without_new_columns(now) };
    let as_then = TokenEntry { not_after: then.entry.not_after, ..now_known.entry };
    end(now) <= end(then) && TokenRecord { entry: as_then, ..now_known } == *then
}

/// The resources whose checks failed.
fn failing<const N: usize>(checks: [(String, bool); N]) -> Vec<String> {
    checks.into_iter().filter(|(_, holds)| !holds).map(|(resource, _)| resource).collect()
}

/// A token with the columns that entries of before 2026-11-24 have.
fn without_new_columns(token: &TokenRecord) -> TokenRecord {
    TokenRecord { create_time: None, sealed: None, ..token.clone() }
}

/// Identifies the name of a key.
fn name_id(name: &KeyName) -> NameId {
    let mut id = NameId::default();
    id.copy_from_slice(&fingerprint(&name.to_string())[..16]);
    id
}

/// Hash of the JSON of a value, which has every field in a fixed order: equal values, and only they, have equal hashes.
fn fingerprint(thing: &impl Serialize) -> Fingerprint {
    // Cannot fail: these types have string keys only, and the JSON is written to memory.
    let text = serde_json::to_vec(thing).unwrap_or_default();
    *blake3::hash(&text).as_bytes()
}
