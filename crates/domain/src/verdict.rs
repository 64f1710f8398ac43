use strum::{IntoStaticStr, VariantArray};

use crate::id::ProjectId;
use crate::key::Platform;
use crate::time::Timestamp;

/// The result of a validation. A denied token is an answer, not an error.
///
/// `Valid` if no other variant applies. The others are in the order in which they are decided: a validator decides
/// `Malformed` and `Unknown` when it parses and looks up the token (`crates/replica/src/replica.rs`), [`evaluate`] decides the
/// rest. A validator without a lease gives no verdict at all.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The token is accepted.
    Valid,
    /// The text does not have the form of a token, or its checksum is wrong.
    Malformed,
    /// No key has this token.
    Unknown,
    /// The key is deactivated, or the token is superseded.
    Deactivated,
    /// The key is expired.
    Expired,
    /// The key belongs to another project than the request.
    WrongProject,
    /// The key is a client key, and the request allows server keys only.
    ClientKeyNotAllowed,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; Self::VARIANTS.len()] = {
        let mut all = [Self::Valid; Self::VARIANTS.len()];
        all.copy_from_slice(Self::VARIANTS);
        all
    };

    /// The verdict's name in metrics and logs, such as `wrong_project`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The facts about a token and its key that decide the verdict.
#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    /// `true` if the key is active.
    pub active: bool,
    /// The token is superseded from this instant on (inclusive).
    pub not_after: Option<Timestamp>,
    /// The key is expired from this instant on (inclusive).
    pub expire_time: Option<Timestamp>,
    /// The key's project.
    pub project: &'a ProjectId,
    /// The key's platform.
    pub platform: Platform,
}

/// What a request requires of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation<'a> {
    /// The bare id of the project that the request is for; `None` accepts every project.
    pub project: Option<&'a str>,
    /// `true` if client keys are accepted too.
    pub allow_client_keys: bool,
}

/// Decides the verdict on a token that was found. The first reason that applies wins, in the order of [`Verdict::ALL`].
pub fn evaluate(facts: &TokenFacts<'_>, expectation: &Expectation<'_>, now: Timestamp) -> Verdict {
    let reached = |time: Option<Timestamp>| time.is_some_and(|t| now >= t);
    if !facts.active || reached(facts.not_after) {
        Verdict::Deactivated
    } else if reached(facts.expire_time) {
        Verdict::Expired
    } else if expectation.project.is_some_and(|p| p != facts.project.as_str()) {
        Verdict::WrongProject
    } else if facts.platform.is_client() && !expectation.allow_client_keys {
        Verdict::ClientKeyNotAllowed
    } else {
        Verdict::Valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    #[test]
    fn the_first_reason_in_the_documented_order_wins() {
        let project = ProjectId::from_store("6666".to_owned());
        let before = Some(Timestamp::from_micros(999));
        // Each row breaks one rule more than the row before.
        let mut facts = TokenFacts {
            active: true,
            not_after: None,
            expire_time: None,
            project: &project,
            platform: Platform::Server,
        };
        let mut expectation = Expectation { project: Some("6666"), allow_client_keys: false };
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::Valid);
        facts.platform = Platform::Ios;
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::ClientKeyNotAllowed);
        expectation.project = Some("7777");
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::WrongProject);
        facts.expire_time = before;
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::Expired);
        facts.not_after = before;
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::Deactivated);
        facts.not_after = None;
        facts.active = false;
        assert_eq!(evaluate(&facts, &expectation, NOW), Verdict::Deactivated);
    }

    #[test]
    fn expiry_and_supersession_include_their_instant() {
        let project = ProjectId::from_store("6666".to_owned());
        let facts = |time| TokenFacts {
            active: true,
            not_after: None,
            expire_time: Some(Timestamp::from_micros(time)),
            project: &project,
            platform: Platform::Server,
        };
        assert_eq!(evaluate(&facts(1_000), &Expectation::default(), NOW), Verdict::Expired);
        assert_eq!(evaluate(&facts(1_001), &Expectation::default(), NOW), Verdict::Valid);
    }
}
