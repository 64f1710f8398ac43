use crate::filter::{self, Operator, TextMatch};
use crate::id::MemberId;
use crate::key::{KeyState, Platform};
use crate::rule::Rule;

/// Selects the keys of a list: those that satisfy every part that is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyFilter {
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys of this platform.
    pub platform: Option<Platform>,
    /// Only keys whose name within the project matches.
    pub name: Option<TextMatch>,
    /// Only keys that this member created.
    pub creator: Option<MemberId>,
    /// Only default keys if `true`, only other keys if `false`.
    pub default_key: Option<bool>,
}

impl KeyFilter {
    /// Parses the filter of a list of keys, such as `state = ACTIVE AND name = "server_*"`.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        let mut filter = Self::default();
        for restriction in filter::parse(text)? {
            if restriction.operator != Operator::Equal {
                return Err("of restrictions with = only".into());
            }
            let value = restriction.value;
            match restriction.field.as_str() {
                "state" => filter.state = Some(state(&value)?),
                "platform" => filter.platform = Some(platform(&value)?),
                "name" => filter.name = Some(TextMatch::parse(value)?),
                "creator" => filter.creator = Some(MemberId::parse_name(&value)?),
                "default_key" => filter.default_key = Some(boolean(&value)?),
                _ => return Err("about state, platform, name, creator and default_key".into()),
            }
        }
        Ok(filter)
    }
}

fn state(value: &str) -> Result<KeyState, Rule> {
    match value {
        "ACTIVE" | "STATE_ACTIVE" => Ok(KeyState::Active),
        "DEACTIVATED" | "STATE_DEACTIVATED" => Ok(KeyState::Deactivated),
        _ => Err("with state = ACTIVE or state = DEACTIVATED".into()),
    }
}

fn platform(value: &str) -> Result<Platform, Rule> {
    Platform::from_name(value).ok_or_else(|| "with platform = server, android, ios or javascript".into())
}

fn boolean(value: &str) -> Result<bool, Rule> {
    value.parse().map_err(|_| "with default_key = true or default_key = false".into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_field_takes_its_own_values() {
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
