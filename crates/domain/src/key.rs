use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use keyward_token::TokenKind;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{KeyId, KeyName, MemberId, Uid};
use crate::log::Revision;
use crate::text::{breaks_a_line, check_text};
use crate::time::Timestamp;

/// What a key may do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Its token is accepted.
    Active,
    /// Its token is refused everywhere.
    Deactivated,
}

/// Where a key's token will live. It is in the token's prefix, so it never changes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// A server that keeps its secrets.
    #[default]
    Server,
    /// An Android application, which the world can read.
    Android,
    /// An iOS application, which the world can read.
    Ios,
    /// A web page, which the world can read.
    Javascript,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 4] = [Self::Server, Self::Android, Self::Ios, Self::Javascript];

    /// Its name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Android => "android",
            Self::Ios => "ios",
            Self::Javascript => "javascript",
        }
    }

    /// The platform of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }

    /// The kind of token that its keys get.
    pub const fn token_kind(self) -> TokenKind {
        match self {
            Self::Server => TokenKind::Server,
            Self::Android | Self::Ios | Self::Javascript => TokenKind::Client,
        }
    }

    /// Whether the world can read its tokens.
    pub const fn is_client(self) -> bool {
        !matches!(self, Self::Server)
    }
}

impl Display for Platform {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A deactivation to come.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// When.
    pub time: Timestamp,
    /// Who wanted it; the deactivation will be this member's.
    pub by: MemberId,
}

/// An API key. Its token is not in here.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Never reused.
    pub uid: Uid,
    /// Resource name.
    pub name: KeyName,
    /// What it may do now.
    pub state: KeyState,
    /// Born with the project; cannot be deactivated.
    pub default_key: bool,
    /// Free text for people.
    pub description: String,
    /// Where its token lives.
    pub platform: Platform,
    /// Last four characters of the current token, for the masked form.
    pub last4: String,
    /// Who created it.
    pub creator: MemberId,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Who deactivated it, while it is deactivated.
    pub deactivator: Option<MemberId>,
    /// When, while it is deactivated.
    pub deactivate_time: Option<Timestamp>,
    /// From this instant on (inclusive) it is expired.
    pub expire_time: Option<Timestamp>,
    /// When the platform is to deactivate it by itself.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// The key of the same project that it replaces.
    #[serde(default)]
    pub replaces: Option<KeyId>,
    /// The key of the same project that replaces it.
    #[serde(default)]
    pub replaced_by: Option<KeyId>,
    /// Labels for machines.
    pub annotations: BTreeMap<String, String>,
    /// The revision that created it; lists are in this order.
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub revision: Revision,
}

impl Key {
    /// The etag: changes with every change of the key, and differs between keys.
    pub fn etag(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.uid.as_bytes());
        hasher.update(&self.revision.0.to_be_bytes());
        hex::encode(&hasher.finalize().as_bytes()[..8])
    }

    /// Whoever acts on an old state of the key is refused; empty: whoever does not care.
    fn check_etag(&self, etag: &str) -> Result<(), Error> {
        if etag.is_empty() || etag == self.etag() { Ok(()) } else { Err(Error::etag_mismatch(&self.name)) }
    }

    /// This key with what `update` says.
    ///
    /// # Errors
    /// `DEFAULT_KEY_PROTECTED` for an end of the default key; `FIELD_INVALID` for one that is not in the future;
    /// `KEY_DEACTIVATED` for a schedule; `ETAG_MISMATCH`.
    pub fn updated(
        &self,
        update: &KeyUpdate,
        by: &MemberId,
        etag: &str,
        now: Timestamp,
        revision: Revision,
    ) -> Result<Self, Error> {
        self.check_etag(etag)?;
        let (expiry, schedule) = (update.expire_time.flatten(), update.scheduled_deactivate_time.flatten());
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

    /// Whether `update` leaves this key as it is.
    pub fn has_all_of(&self, update: &KeyUpdate) -> bool {
        // Who scheduled what is scheduled anyway makes no difference.
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
        if let Some(expire_time) = update.expire_time {
            key.expire_time = expire_time;
        }
        if let Some(time) = update.scheduled_deactivate_time {
            key.schedule = time.map(|time| Schedule { time, by: by.clone() });
        }
        key
    }

    /// This key, which `new` is about to replace; `schedule`: when it is to be deactivated.
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
        // What was scheduled before is not put off by this.
        let schedule = [schedule, self.schedule.clone()].into_iter().flatten().min_by_key(|schedule| schedule.time);
        Ok(Self { replaced_by: Some(new.clone()), schedule, update_time: now, revision, ..self.clone() })
    }

    /// This key, active again.
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

    /// This key, deactivated.
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

/// A key that somebody asks for, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyDraft {
    /// Its name.
    pub name: KeyName,
    /// Free text for people.
    pub description: String,
    /// Where its token will live.
    pub platform: Platform,
    /// From this instant on (inclusive) it is expired.
    pub expire_time: Option<Timestamp>,
    /// Labels for machines.
    pub annotations: BTreeMap<String, String>,
}

impl KeyDraft {
    /// Checks everything but the name, which has its own type, and the expiry, which only the store's clock can judge.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `key.description`, `key.platform` or `key.annotations`.
    pub fn parse(
        name: KeyName,
        description: String,
        platform: &str,
        expire_time: Option<Timestamp>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        check_text("key.description", &description, 256)?;
        let platform = match platform {
            "" => Platform::Server,
            name => Platform::from_name(name)
                .ok_or_else(|| Error::field("key.platform", "empty or one of server, android, ios, javascript"))?,
        };
        check_annotations(&annotations)?;
        Ok(Self { name, description, platform, expire_time, annotations })
    }

    /// Checks the expiry against the clock.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `key.expire_time` when it is not in the future.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), Error> {
        check_future("key.expire_time", self.expire_time, now)
    }
}

/// What somebody wants to be different about a key, checked. `None`: as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyUpdate {
    /// Free text for people.
    pub description: Option<String>,
    /// Labels for machines, all of them.
    pub annotations: Option<BTreeMap<String, String>>,
    /// From this instant on (inclusive) it is expired; `Some(None)`: never.
    pub expire_time: Option<Option<Timestamp>>,
    /// When the platform is to deactivate it; `Some(None)`: not by itself.
    pub scheduled_deactivate_time: Option<Option<Timestamp>>,
}

impl KeyUpdate {
    /// Checks everything but instants, which only the store's clock can judge.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `key.description` or `key.annotations`.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(description) = &self.description {
            check_text("key.description", description, 256)?;
        }
        self.annotations.as_ref().map_or(Ok(()), check_annotations)
    }
}

fn check_future(field: &str, time: Option<Timestamp>, now: Timestamp) -> Result<(), Error> {
    if time.is_some_and(|t| t <= now) {
        return Err(Error::field(field, "in the future"));
    }
    Ok(())
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), Error> {
    const RULE: &str = "at most 32 entries; names 1 to 63 of a-z 0-9 . _ / - starting with a letter; values at most 256 characters without control characters";
    let name_ok = |name: &str| {
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b))
    };
    let value_ok = |value: &str| value.chars().count() <= 256 && !value.chars().any(breaks_a_line);
    if annotations.len() > 32 || !annotations.iter().all(|(name, value)| name_ok(name) && value_ok(value)) {
        return Err(Error::field("key.annotations", RULE));
    }
    Ok(())
}
