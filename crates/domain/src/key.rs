use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use keyward_token::TokenKind;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::error::{Error, OnField};
use crate::id::{KeyId, KeyName, MemberId, Uid};
use crate::log::Revision;
use crate::rule::Rule;
use crate::text::{check_text, is_hidden};
use crate::time::Timestamp;

/// State of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Its token is accepted.
    Active,
    /// Its token is refused everywhere.
    Deactivated,
}

/// State of a key as validators enforce it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EnforcedState {
    /// Its token is accepted.
    Active,
    /// The database has the key as active, and its token is refused everywhere because a lost history refused it.
    Withheld,
    /// Its token is refused everywhere.
    Deactivated,
}

/// Where a key's token is used. The token's prefix depends on it, so it never changes.
#[derive(Clone, Copy, Debug, Default, Deserialize, EnumString, Eq, Hash, IntoStaticStr, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Platform {
    /// A server, which keeps its secrets.
    #[default]
    Server,
    /// An Android application, whose users can read its token.
    Android,
    /// An iOS application, whose users can read its token.
    Ios,
    /// A web page, whose visitors can read its token.
    Javascript,
}

impl Platform {
    /// The platform's name on the wire and in the database, such as `server`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The platform with this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The kind of token that keys of this platform have.
    pub const fn token_kind(self) -> TokenKind {
        match self {
            Self::Server => TokenKind::Server,
            Self::Android | Self::Ios | Self::Javascript => TokenKind::Client,
        }
    }

    /// Returns `true` if strangers can read the platform's tokens.
    pub const fn is_client(self) -> bool {
        !matches!(self, Self::Server)
    }
}

impl Display for Platform {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A deactivation in the future.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// When Keyward deactivates the key by itself.
    pub time: Timestamp,
    /// The member that scheduled it, and the actor of the deactivation in the change log.
    pub by: MemberId,
}

/// An API key, without its tokens.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Never reused.
    pub uid: Uid,
    /// Resource name.
    pub name: KeyName,
    /// Current state.
    pub state: KeyState,
    /// `true` for the project's default key, which cannot be deactivated.
    pub default_key: bool,
    /// Free text for people.
    pub description: String,
    /// Where its token is used.
    pub platform: Platform,
    /// Last four characters of the current token, for the masked form.
    pub last4: String,
    /// The member that created it.
    pub creator: MemberId,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// The member that deactivated it, while it is deactivated.
    pub deactivator: Option<MemberId>,
    /// When it was deactivated, while it is deactivated.
    pub deactivate_time: Option<Timestamp>,
    /// The key is expired from this instant on (inclusive).
    pub expire_time: Option<Timestamp>,
    /// The deactivation that Keyward will carry out by itself, if one is scheduled.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// The key of the same project that it replaces.
    #[serde(default)]
    pub replaces: Option<KeyId>,
    /// The key of the same project that replaces it.
    #[serde(default)]
    pub replaced_by: Option<KeyId>,
    /// Notes for programs, by name.
    pub annotations: BTreeMap<String, String>,
    /// The revision that created it. Lists are in this order.
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub revision: Revision,
}

impl Key {
    /// The key's etag (AIP-154). It changes with every change of the key, and differs between keys.
    pub fn etag(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.uid.as_bytes());
        hasher.update(&self.revision.0.to_be_bytes());
        hex::encode(&hasher.finalize().as_bytes()[..8])
    }

    /// Rejects a stale etag; an empty etag skips the check.
    fn check_etag(&self, etag: &str) -> Result<(), Error> {
        if etag.is_empty() || etag == self.etag() { Ok(()) } else { Err(Error::etag_mismatch(&self.name)) }
    }

    /// Returns this key with `update` applied.
    ///
    /// # Errors
    /// `DEFAULT_KEY_PROTECTED` for an expiry or schedule of the default key; `FIELD_INVALID` for one that is not in the
    /// future; `KEY_DEACTIVATED` for a schedule of a deactivated key; `ETAG_MISMATCH`.
    pub fn updated(
        &self,
        update: &KeyUpdate,
        by: &MemberId,
        etag: &str,
        now: Timestamp,
        revision: Revision,
    ) -> Result<Self, Error> {
        self.check_etag(etag)?;
        let (expiry, schedule) = (update.expire_time.value(), update.scheduled_deactivate_time.value());
        if self.default_key && (expiry.is_some() || schedule.is_some()) {
            return Err(Error::default_key_protected(&self.name));
        }
        check_future("key.expire_time", expiry, now)?;
        check_future("key.scheduled_deactivate_time", schedule, now)?;
        if schedule.is_some() && self.state == KeyState::Deactivated {
            return Err(Error::key_deactivated(&self.name));
        }
        Ok(Self { update_time: now, revision, ..self.with(update, by) })
    }

    /// Returns `true` if `update` leaves this key as it is.
    pub fn has_all_of(&self, update: &KeyUpdate) -> bool {
        // The same instant scheduled by another member is no change.
        let by = self.schedule.as_ref().map_or(&self.creator, |schedule| &schedule.by);
        *self == self.with(update, by)
    }

    fn with(&self, update: &KeyUpdate, by: &MemberId) -> Self {
        let mut key = self.clone();
        if let Some(description) = &update.description {
            key.description.clone_from(description);
        }
        if let Some(annotations) = &update.annotations {
            key.annotations.clone_from(annotations);
        }
        match update.expire_time {
            Patch::Keep => {}
            Patch::Clear => key.expire_time = None,
            Patch::Set(time) => key.expire_time = Some(time),
        }
        match update.scheduled_deactivate_time {
            Patch::Keep => {}
            Patch::Clear => key.schedule = None,
            Patch::Set(time) => key.schedule = Some(Schedule { time, by: by.clone() }),
        }
        key
    }

    /// Returns this key as it is once `new` replaces it, with `schedule` as its deactivation unless an earlier one is
    /// scheduled.
    ///
    /// # Errors
    /// `DEFAULT_KEY_PROTECTED`, `KEY_DEACTIVATED`, `KEY_REPLACED`.
    pub fn replaced(
        &self,
        new: &KeyId,
        schedule: Option<Schedule>,
        now: Timestamp,
        revision: Revision,
    ) -> Result<Self, Error> {
        if self.default_key {
            return Err(Error::default_key_protected(&self.name));
        }
        if self.state == KeyState::Deactivated {
            return Err(Error::key_deactivated(&self.name));
        }
        if let Some(by) = &self.replaced_by {
            return Err(Error::key_replaced(&self.name, by));
        }
        // A rotation never postpones a deactivation that was scheduled before.
        let schedule = [schedule, self.schedule.clone()].into_iter().flatten().min_by_key(|schedule| schedule.time);
        Ok(Self { replaced_by: Some(new.clone()), schedule, update_time: now, revision, ..self.clone() })
    }

    /// Returns this key, activated again.
    ///
    /// # Errors
    /// `ETAG_MISMATCH`.
    pub fn activated(&self, etag: &str, now: Timestamp, revision: Revision) -> Result<Self, Error> {
        self.check_etag(etag)?;
        Ok(Self {
            state: KeyState::Active,
            deactivator: None,
            deactivate_time: None,
            schedule: None,
            update_time: now,
            revision,
            ..self.clone()
        })
    }

    /// Returns this key, deactivated.
    ///
    /// # Errors
    /// `DEFAULT_KEY_PROTECTED`; `ETAG_MISMATCH`.
    pub fn deactivated(&self, by: &MemberId, etag: &str, now: Timestamp, revision: Revision) -> Result<Self, Error> {
        if self.default_key {
            return Err(Error::default_key_protected(&self.name));
        }
        self.check_etag(etag)?;
        Ok(Self {
            state: KeyState::Deactivated,
            deactivator: Some(by.clone()),
            deactivate_time: Some(now),
            schedule: None,
            update_time: now,
            revision,
            ..self.clone()
        })
    }
}

/// A key to create, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyDraft {
    /// Its name.
    pub name: KeyName,
    /// Free text for people.
    pub description: String,
    /// Where its token will be used.
    pub platform: Platform,
    /// The key is expired from this instant on (inclusive).
    pub expire_time: Option<Timestamp>,
    /// Notes for programs, by name.
    pub annotations: BTreeMap<String, String>,
}

impl KeyDraft {
    /// Checks the fields of a key, except the expiry: only the store has the time to compare it with. An empty platform is
    /// `server`.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `description`, `platform` or `annotations`.
    pub fn new(
        name: KeyName,
        description: String,
        platform: &str,
        expire_time: Option<Timestamp>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        check_text(&description, 256).on_field("description")?;
        let platform = match platform {
            "" => Platform::Server,
            name => Platform::from_name(name)
                .ok_or_else(|| Error::field("platform", "empty or one of server, android, ios, javascript"))?,
        };
        check_annotations(&annotations).on_field("annotations")?;
        Ok(Self { name, description, platform, expire_time, annotations })
    }

    /// Checks the expiry against the store's clock.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `key.expire_time` if it is not in the future.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), Error> {
        check_future("key.expire_time", self.expire_time, now)
    }
}

/// A change of a key's fields, checked. A field that is `None` stays as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyUpdate {
    /// Free text for people.
    pub description: Option<String>,
    /// All annotations: those that are not in here are removed.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The expiry (inclusive).
    pub expire_time: Patch<Timestamp>,
    /// The time of the scheduled deactivation.
    pub scheduled_deactivate_time: Patch<Timestamp>,
}

/// What an update does to a field that may be absent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Patch<T> {
    /// Leaves the field as it is.
    #[default]
    Keep,
    /// Removes the field's value.
    Clear,
    /// Sets the field's value.
    Set(T),
}

impl<T> Patch<T> {
    /// The value to set; `None` if the update sets none.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Keep | Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl KeyUpdate {
    /// Checks all fields except the instants: only the store has the time to compare them with.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `description` or `annotations`.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(description) = &self.description {
            check_text(description, 256).on_field("description")?;
        }
        self.annotations.as_ref().map_or(Ok(()), check_annotations).on_field("annotations")
    }
}

/// `field` is the path in CreateKey's and UpdateKey's requests: the check runs in the store's transaction, which has no request
/// to ask.
fn check_future(field: &str, time: Option<Timestamp>, now: Timestamp) -> Result<(), Error> {
    if time.is_some_and(|t| t <= now) {
        return Err(Error::field(field, "in the future"));
    }
    Ok(())
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), Rule> {
    const RULE: &str = "at most 32 entries; names 1 to 63 of a-z 0-9 . _ / - starting with a letter; values at most 256 characters, without control characters and invisible format characters";
    let name_ok = |name: &str| {
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b))
    };
    let value_ok = |value: &str| value.chars().count() <= 256 && !value.chars().any(is_hidden);
    if annotations.len() > 32 || !annotations.iter().all(|(name, value)| name_ok(name) && value_ok(value)) {
        return Err(RULE.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_platform_has_one_name_in_the_log_and_in_the_database() {
        for (platform, name) in [
            (Platform::Server, "server"),
            (Platform::Android, "android"),
            (Platform::Ios, "ios"),
            (Platform::Javascript, "javascript"),
        ] {
            assert_eq!((platform.as_str(), Platform::from_name(name)), (name, Some(platform)));
            assert_eq!(serde_json::to_value(platform).unwrap(), name);
        }
        assert_eq!(Platform::from_name("Server"), None);
    }
}
