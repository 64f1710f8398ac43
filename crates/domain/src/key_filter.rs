use crate::filter::{self, Operator, TextMatch};
use crate::id::{KeyId, MemberId, ProjectId};
use crate::key::{EnforcedState, Platform};
use crate::rule::Rule;

/// Selects the keys of a list: those that satisfy every part that is set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyFilter {
    /// Only keys in this state.
    pub state: Option<EnforcedState>,
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
    /// Parses the filter of a list of the keys of `project`, such as `state = ACTIVE AND name = "server_*"`.
    ///
    /// # Errors
    /// The rule that `text` breaks. A value that no key of the project can have is refused, because an empty list would hide
    /// the mistake.
    pub fn parse(text: &str, project: &ProjectId) -> Result<Self, Rule> {
        let mut filter = Self::default();
        for restriction in filter::parse(text)? {
            if restriction.operator != Operator::Equal {
                return Err("of restrictions with = only".into());
            }
            let value = restriction.value;
            match restriction.field.as_str() {
                "state" => filter.state = Some(state(&value)?),
                "platform" => filter.platform = Some(platform(&value)?),
                "name" => filter.name = Some(name(&value, project)?),
                "creator" => filter.creator = Some(MemberId::parse_name(&value)?),
                "default_key" => filter.default_key = Some(boolean(&value)?),
                _ => return Err("about state, platform, name, creator and default_key".into()),
            }
        }
        Ok(filter)
    }
}

fn state(value: &str) -> Result<EnforcedState, Rule> {
    match value {
        "ACTIVE" | "STATE_ACTIVE" => Ok(EnforcedState::Active),
        "WITHHELD" | "STATE_WITHHELD" => Ok(EnforcedState::Withheld),
        "DEACTIVATED" | "STATE_DEACTIVATED" => Ok(EnforcedState::Deactivated),
        _ => Err("with state = ACTIVE, state = WITHHELD or state = DEACTIVATED".into()),
    }
}

/// A pattern for a key's name within its project. Accepts the name alone, and the resource name.
fn name(value: &str, project: &ProjectId) -> Result<TextMatch, Rule> {
    const RULE: &str = "with a name of letters, digits and underscores, alone or after the list's parent, and with * at its \
                        end for a prefix, such as name = \"server_*\" or name = \"projects/6666/keys/server_*\"";
    let of_project = [&project.name(), "/keys/"].concat();
    let pattern = TextMatch::parse(value.strip_prefix(&of_project).unwrap_or(value).to_owned())?;
    let can_match = match &pattern {
        TextMatch::Exact(text) => KeyId::parse(text).is_ok(),
        TextMatch::Prefix(text) => text.is_empty() || KeyId::parse(text).is_ok(),
    };
    if can_match { Ok(pattern) } else { Err(RULE.into()) }
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

    fn parse(text: &str) -> Result<KeyFilter, Rule> {
        KeyFilter::parse(text, &ProjectId::parse("6666").unwrap())
    }

    #[test]
    fn each_field_takes_its_own_values() {
        let text = "state = STATE_DEACTIVATED AND platform = ios AND name = \"a_*\" AND creator = members/bob \
                    AND default_key = false";
        let expected = KeyFilter {
            state: Some(EnforcedState::Deactivated),
            platform: Some(Platform::Ios),
            name: Some(TextMatch::Prefix("a_".to_owned())),
            creator: Some(MemberId::from_store("bob".to_owned())),
            default_key: Some(false),
        };
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("state = WITHHELD").unwrap().state, Some(EnforcedState::Withheld));
        for bad in ["state = active", "platform = tv", "creator = bob", "default_key = 1", "state < ACTIVE", "uid = a"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_matched_within_the_project_and_one_that_no_key_can_have_is_refused() {
        let prefix = |text: &str| Some(TextMatch::Prefix(text.to_owned()));
        for (text, expected) in [
            ("x*", prefix("x")),
            ("*", prefix("")),
            ("projects/6666/keys/x*", prefix("x")),
            ("projects/6666/keys/*", prefix("")),
            ("projects/6666/keys/x", Some(TextMatch::Exact("x".to_owned()))),
        ] {
            assert_eq!(parse(&format!("name = {text}")).unwrap().name, expected, "{text}");
        }
        let too_long = "a".repeat(65);
        for bad in ["projects/7777/keys/x*", "projects/6666/*", "projects/*", "keys/x", "a-b", "a.*", &too_long] {
            let rule = parse(&format!("name = {bad}")).unwrap_err();
            assert!(rule.as_str().contains("projects/6666/keys/server_*"), "{bad}: {rule:?}");
        }
        assert!(parse("name = a*b").is_err());
    }
}
