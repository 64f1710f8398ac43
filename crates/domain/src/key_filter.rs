use crate::error::Error;
use crate::filter::{self, Operator, TextMatch, invalid};
use crate::id::MemberId;
use crate::key::{KeyState, Platform};

/// Which keys a list is to have: those that satisfy every part that is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyFilter {
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys of this platform.
    pub platform: Option<Platform>,
    /// Only keys whose name, as people see it, is or begins so.
    pub name: Option<TextMatch>,
    /// Only keys that this member created.
    pub creator: Option<MemberId>,
    /// Only default keys, or only others.
    pub default_key: Option<bool>,
}

impl KeyFilter {
    /// Reads the `filter` of a request.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `filter`, with the rule.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for restriction in filter::parse(text)? {
            if restriction.operator != Operator::Equal {
                return Err(invalid("of restrictions with = only"));
            }
            let value = restriction.value;
            match restriction.field.as_str() {
                "state" => filter.state = Some(state(&value)?),
                "platform" => filter.platform = Some(platform(&value)?),
                "name" => filter.name = Some(TextMatch::parse(value)?),
                "creator" => filter.creator = Some(MemberId::parse_name("filter", &value)?),
                "default_key" => filter.default_key = Some(boolean(&value)?),
                _ => return Err(invalid("about state, platform, name, creator and default_key")),
            }
        }
        Ok(filter)
    }
}

fn state(value: &str) -> Result<KeyState, Error> {
    match value {
        "ACTIVE" | "STATE_ACTIVE" => Ok(KeyState::Active),
        "DEACTIVATED" | "STATE_DEACTIVATED" => Ok(KeyState::Deactivated),
        _ => Err(invalid("with state = ACTIVE or state = DEACTIVATED")),
    }
}

fn platform(value: &str) -> Result<Platform, Error> {
    Platform::from_name(value).ok_or_else(|| invalid("with platform = server, android, ios or javascript"))
}

fn boolean(value: &str) -> Result<bool, Error> {
    value.parse().map_err(|_| invalid("with default_key = true or default_key = false"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_field_has_its_values() {
        let text = "state = STATE_DEACTIVATED AND platform = ios AND name = \"a_*\" AND creator = members/bob \
                    AND default_key = false";
        let expected = KeyFilter {
            state: Some(KeyState::Deactivated),
            platform: Some(Platform::Ios),
            name: Some(TextMatch::Prefix("a_".to_owned())),
            creator: Some(MemberId::from_store("bob".to_owned())),
            default_key: Some(false),
        };
        assert_eq!(KeyFilter::parse(text).unwrap(), expected);
        for bad in ["state = active", "platform = tv", "creator = bob", "default_key = 1", "state < ACTIVE", "uid = a"]
        {
            assert!(KeyFilter::parse(bad).is_err(), "{bad}");
        }
    }
}
