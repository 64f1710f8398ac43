use std::fmt::{Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rule::Rule;
use crate::uuid_id::uuid_id;

uuid_id!(
    /// UUIDv7 of a project, key or member; never reused. Ordered by creation time.
    Uid
);

impl Uid {
    /// A new uid with the current time.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

/// Defines a string newtype that is made by its checking parser only, or from a database row.
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

            /// Wraps an id from the database, where it was checked before it was stored.
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
    /// A project's id: 1 to 32 ASCII letters and digits, such as `6666`.
    ProjectId
);

text_id!(
    /// A key's name within its project: 1 to 64 ASCII letters, digits and underscores, such as `server_prod`.
    KeyId
);

text_id!(
    /// A member's id: 1 to 64 of `a-z0-9._-`, starting with a letter or digit, such as `alice`.
    MemberId
);

text_id!(
    /// A client's id for a request, by which a retry is recognized (AIP-155): a UUID in hyphenated, lower-case form.
    RequestId
);

fn within(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(allowed)
}

// === impl ProjectId ===

impl ProjectId {
    const RULE: &'static str = "1 to 32 letters and digits";

    /// Parses an id from outside.
    ///
    /// # Errors
    /// The rule that `id` breaks.
    pub fn parse(id: &str) -> Result<Self, Rule> {
        Self::check(id).map(|id| Self(id.to_owned()))
    }

    /// Checks an id and returns it unchanged. Allocates only if it breaks the rule: the validator calls it on every request.
    ///
    /// # Errors
    /// The rule that `id` breaks.
    pub fn check(id: &str) -> Result<&str, Rule> {
        if within(id, 32, |b| b.is_ascii_alphanumeric()) { Ok(id) } else { Err(Self::RULE.into()) }
    }

    /// Parses a resource name such as `projects/6666`.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn parse_name(name: &str) -> Result<Self, Rule> {
        Self::parse(name.strip_prefix("projects/").ok_or("of the form projects/{project_id}, such as projects/6666")?)
    }

    /// The resource name, such as `projects/6666`.
    pub fn name(&self) -> String {
        format!("projects/{self}")
    }
}

// === impl KeyId ===

impl KeyId {
    const RULE: &'static str = "1 to 64 letters, digits and underscores, such as server_prod";

    /// Parses the id of a key from outside.
    ///
    /// # Errors
    /// The rule that `id` breaks.
    pub fn parse(id: &str) -> Result<Self, Rule> {
        if !within(id, 64, |b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Self::RULE.into());
        }
        Ok(Self(id.to_owned()))
    }

    /// Parses the id that a member chose for a new key.
    ///
    /// # Errors
    /// The rule that `id` breaks; [`Rule::NotReserved`] for the default key's pattern, because a member who could choose
    /// `6666_default_000000` could pass that key off as the default one.
    pub fn parse_new(id: &str) -> Result<Self, Rule> {
        let id = Self::parse(id)?;
        if id.has_default_pattern() {
            return Err(Rule::NotReserved);
        }
        Ok(id)
    }

    /// The name of the default key of `project`. Of `suffix` the last six decimal digits are used.
    pub fn default_of(project: &ProjectId, suffix: u32) -> Self {
        Self(format!("{project}_default_{:06}", suffix % 1_000_000))
    }

    /// Returns `true` for `{letters and digits}_default_{digits}`, of any project and with any number of digits.
    pub fn has_default_pattern(&self) -> bool {
        self.0.split_once("_default_").is_some_and(|(project, suffix)| {
            within(project, 32, |b| b.is_ascii_alphanumeric()) && within(suffix, 64, |b| b.is_ascii_digit())
        })
    }
}

/// A key's resource name, such as `projects/6666/keys/server_prod`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct KeyName {
    /// The project that the key belongs to.
    pub project: ProjectId,
    /// The key's name within the project.
    pub key: KeyId,
}

impl KeyName {
    /// Parses a resource name from outside.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn parse(name: &str) -> Result<Self, Rule> {
        const FORM: &str = "of the form projects/{project_id}/keys/{key_id}, such as projects/6666/keys/server_prod";
        let (project, key) = name.strip_prefix("projects/").and_then(|r| r.split_once("/keys/")).ok_or(FORM)?;
        Ok(Self { project: ProjectId::parse(project)?, key: KeyId::parse(key)? })
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

    /// Parses an id from outside.
    ///
    /// # Errors
    /// The rule that `id` breaks.
    pub fn parse(id: &str) -> Result<Self, Rule> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !within(id, 64, |b| plain(b) || b"._-".contains(&b)) || !id.bytes().next().is_some_and(plain) {
            return Err(Self::RULE.into());
        }
        Ok(Self(id.to_owned()))
    }

    /// Parses a resource name such as `members/alice`.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn parse_name(name: &str) -> Result<Self, Rule> {
        Self::parse(name.strip_prefix("members/").ok_or("of the form members/{member_id}, such as members/alice")?)
    }

    /// The actor of changes that Keyward makes by itself. [`parse`](Self::parse) refuses this id, so no member has it.
    pub fn platform() -> Self {
        Self("_platform".to_owned())
    }

    /// The member that the first start creates.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// The resource name, such as `members/alice`.
    pub fn name(&self) -> String {
        format!("members/{self}")
    }
}

// === impl RequestId ===

impl RequestId {
    /// Parses a request id from outside; empty means that the request has none (AIP-155).
    ///
    /// # Errors
    /// The rule that `id` breaks: it must be a hyphenated UUID other than the nil one.
    pub fn parse(id: &str) -> Result<Option<Self>, Rule> {
        if id.is_empty() {
            return Ok(None);
        }
        match Uuid::from_str(id) {
            Ok(uuid) if id.len() == 36 && !uuid.is_nil() => Ok(Some(Self(uuid.hyphenated().to_string()))),
            _ => Err("a UUID, such as 3f8a2c6e-2b1d-4b7e-9d55-0c6a2f1f9a10, or empty".into()),
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
            assert!(KeyId::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in ["", "a-b", "a.b", "a b", "ключ", "a/b", "a\n", "é", "a\0", too_long.as_str()] {
            let error = KeyId::parse(bad).err().map(|e| e.to_string());
            assert!(error.as_deref().is_some_and(|e| e.contains("1 to 64 letters, digits and underscores")), "{bad:?}");
        }
    }

    #[test]
    fn names_of_the_default_keys_pattern_are_reserved_in_every_project() {
        for reserved in ["6666_default_193444", "6666_default_1", "other_default_000000", "a_default_1234567"] {
            assert!(KeyId::parse(reserved).is_ok());
            assert!(KeyId::parse_new(reserved).is_err(), "{reserved}");
        }
        for free in ["default", "_default_1", "6666_default_", "6666_default_x", "a_b_default_1"] {
            assert!(KeyId::parse_new(free).is_ok(), "{free}");
        }
    }

    #[test]
    fn resource_names_need_their_exact_form() {
        assert_eq!(KeyName::parse("projects/6666/keys/a").map(|n| n.to_string()), Ok("projects/6666/keys/a".into()));
        for bad in
            ["", "6666/a", "projects/6666", "projects/6666/keys/", "projects//keys/a", "projects/6/keys/a/keys/b"]
        {
            assert!(KeyName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn member_ids_start_with_a_letter_or_digit() {
        assert!(MemberId::parse("edge-1.eu_west").is_ok());
        for bad in ["", "-a", ".a", "Alice", "a b", "a/b"] {
            assert!(MemberId::parse(bad).is_err(), "{bad}");
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
