use std::fmt::{Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

/// UUIDv7 of a project, key or member; never reused. Ordered by creation time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(Uuid);

impl Uid {
    /// A new one.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes, in the order of RFC 9562.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The one that is written like this; `None`: none is.
    pub fn from_text(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl From<Uuid> for Uid {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<Uid> for Uuid {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl Display for Uid {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives a string newtype whose only ways in are its checked constructor and the database.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The bare id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// An id that was checked when it was stored.
            pub const fn from_store(id: String) -> Self {
                Self(id)
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A project's id: 1 to 32 ASCII letters and digits, as `6666`.
    ProjectId
);

text_id!(
    /// A key's name within its project: 1 to 64 ASCII letters, digits and underscores, as `server_prod`.
    KeyId
);

text_id!(
    /// A member's id: 1 to 64 of `a-z0-9._-`, starting with a letter or digit, as `alice`.
    MemberId
);

text_id!(
    /// What makes a retry recognizable: a UUID in its hyphenated form, lower case.
    RequestId
);

fn within(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(allowed)
}

// === impl ProjectId ===

impl ProjectId {
    const RULE: &'static str = "1 to 32 letters and digits";

    /// Checks an id that came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the rule.
    pub fn parse(field: &str, id: &str) -> Result<Self, Error> {
        Self::check(field, id).map(|id| Self(id.to_owned()))
    }

    /// The same without making anything, for the hot path.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the rule.
    pub fn check<'a>(field: &str, id: &'a str) -> Result<&'a str, Error> {
        if within(id, 32, |b| b.is_ascii_alphanumeric()) { Ok(id) } else { Err(Error::field(field, Self::RULE)) }
    }

    /// Checks a resource name, `projects/6666`.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the form.
    pub fn parse_name(field: &str, name: &str) -> Result<Self, Error> {
        let Some(id) = name.strip_prefix("projects/") else {
            return Err(Error::field(field, "of the form projects/{project_id}, as projects/6666"));
        };
        Self::parse(field, id)
    }

    /// The resource name, `projects/6666`.
    pub fn name(&self) -> String {
        format!("projects/{self}")
    }
}

// === impl KeyId ===

impl KeyId {
    const RULE: &'static str = "1 to 64 letters, digits and underscores, as server_prod";

    /// Checks an id that came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the rule.
    pub fn parse(field: &str, id: &str) -> Result<Self, Error> {
        if !within(id, 64, |b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::field(field, Self::RULE));
        }
        Ok(Self(id.to_owned()))
    }

    /// Checks a name that somebody wants for a new key.
    ///
    /// # Errors
    /// `FIELD_INVALID`, or `KEY_NAME_RESERVED` for the default key's pattern: whoever could take
    /// `6666_default_000000` could pass a key of theirs off as the default one.
    pub fn parse_new(field: &str, id: &str) -> Result<Self, Error> {
        let id = Self::parse(field, id)?;
        if id.has_default_pattern() {
            return Err(Error::key_name_reserved(field));
        }
        Ok(id)
    }

    /// The default key's name in `project`; `suffix` is reduced to six digits.
    pub fn default_of(project: &ProjectId, suffix: u32) -> Self {
        Self(format!("{project}_default_{:06}", suffix % 1_000_000))
    }

    /// Whether it is `{letters and digits}_default_{digits}`, of whatever project and however many digits.
    pub fn has_default_pattern(&self) -> bool {
        self.0.split_once("_default_").is_some_and(|(project, suffix)| {
            within(project, 32, |b| b.is_ascii_alphanumeric()) && within(suffix, 64, |b| b.is_ascii_digit())
        })
    }
}

/// A key's resource name, `projects/6666/keys/server_prod`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct KeyName {
    /// The project that the key belongs to.
    pub project: ProjectId,
    /// Its name within the project.
    pub key: KeyId,
}

impl KeyName {
    /// Checks a resource name that came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the form.
    pub fn parse(field: &str, name: &str) -> Result<Self, Error> {
        let form = || {
            Error::field(field, "of the form projects/{project_id}/keys/{key_id}, as projects/6666/keys/server_prod")
        };
        let (project, key) = name.strip_prefix("projects/").and_then(|r| r.split_once("/keys/")).ok_or_else(form)?;
        Ok(Self { project: ProjectId::parse(field, project)?, key: KeyId::parse(field, key)? })
    }
}

impl Display for KeyName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "projects/{}/keys/{}", self.project, self.key)
    }
}

// === impl MemberId ===

impl MemberId {
    const RULE: &'static str = "1 to 64 of a-z, 0-9, dot, hyphen and underscore, starting with a letter or digit";

    /// Checks an id that came from outside.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the rule.
    pub fn parse(field: &str, id: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !within(id, 64, |b| plain(b) || b"._-".contains(&b)) || !id.bytes().next().is_some_and(plain) {
            return Err(Error::field(field, Self::RULE));
        }
        Ok(Self(id.to_owned()))
    }

    /// Checks a resource name, `members/alice`.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `field`, with the form.
    pub fn parse_name(field: &str, name: &str) -> Result<Self, Error> {
        let Some(id) = name.strip_prefix("members/") else {
            return Err(Error::field(field, "of the form members/{member_id}, as members/alice"));
        };
        Self::parse(field, id)
    }

    /// Whoever does what the platform does by itself. No member can have this id.
    pub fn platform() -> Self {
        Self("_platform".to_owned())
    }

    /// The member that the first start makes.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// The resource name, `members/alice`.
    pub fn name(&self) -> String {
        format!("members/{self}")
    }
}

// === impl RequestId ===

impl RequestId {
    /// Checks a request id that came from outside; empty means none (AIP-155).
    ///
    /// # Errors
    /// `FIELD_INVALID` on `request_id` unless it is a hyphenated UUID other than the nil one.
    pub fn parse(id: &str) -> Result<Option<Self>, Error> {
        if id.is_empty() {
            return Ok(None);
        }
        match Uuid::from_str(id) {
            Ok(uuid) if id.len() == 36 && !uuid.is_nil() => Ok(Some(Self(uuid.hyphenated().to_string()))),
            _ => Err(Error::field("request_id", "a UUID, as 3f8a2c6e-2b1d-4b7e-9d55-0c6a2f1f9a10, or empty")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_letters_digits_and_underscores() {
        let long = "a".repeat(64);
        for good in ["server_prod", "A", "_", "9", long.as_str()] {
            assert!(KeyId::parse("key_id", good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in ["", "a-b", "a.b", "a b", "ключ", "a/b", "a\n", "é", "a\0", too_long.as_str()] {
            let error = KeyId::parse("key_id", bad).err().map(|e| e.to_string());
            assert!(error.as_deref().is_some_and(|e| e.contains("1 to 64 letters, digits and underscores")), "{bad:?}");
        }
    }

    #[test]
    fn names_of_the_default_keys_pattern_are_reserved_in_every_project() {
        for reserved in ["6666_default_193444", "6666_default_1", "other_default_000000", "a_default_1234567"] {
            assert!(KeyId::parse("key_id", reserved).is_ok());
            assert!(KeyId::parse_new("key_id", reserved).is_err(), "{reserved}");
        }
        for free in ["default", "_default_1", "6666_default_", "6666_default_x", "a_b_default_1"] {
            assert!(KeyId::parse_new("key_id", free).is_ok(), "{free}");
        }
    }

    #[test]
    fn resource_names_need_their_exact_form() {
        assert_eq!(
            KeyName::parse("name", "projects/6666/keys/a").map(|n| n.to_string()),
            Ok("projects/6666/keys/a".into())
        );
        for bad in
            ["", "6666/a", "projects/6666", "projects/6666/keys/", "projects//keys/a", "projects/6/keys/a/keys/b"]
        {
            assert!(KeyName::parse("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn member_ids_start_with_a_letter_or_digit() {
        assert!(MemberId::parse("member_id", "edge-1.eu_west").is_ok());
        for bad in ["", "-a", ".a", "Alice", "a b", "a/b"] {
            assert!(MemberId::parse("member_id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn request_ids_are_uuids_or_empty() {
        assert_eq!(RequestId::parse(""), Ok(None));
        let id = RequestId::parse("3F8A2C6E-2b1d-4b7e-9d55-0c6a2f1f9a10").ok().flatten();
        assert_eq!(id.map(|i| i.to_string()).as_deref(), Some("3f8a2c6e-2b1d-4b7e-9d55-0c6a2f1f9a10"));
        for bad in ["1", "3f8a2c6e2b1d4b7e9d550c6a2f1f9a10", "00000000-0000-0000-0000-000000000000"] {
            assert!(RequestId::parse(bad).is_err(), "{bad}");
        }
    }
}
