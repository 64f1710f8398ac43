use crate::id::ProjectId;
use crate::key::Platform;
use crate::time::Timestamp;

/// What a validation says. A denied token is an answer, not an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Accept.
    Valid,
    /// Not of a token's shape, or its checksum is wrong.
    Malformed,
    /// No key has this token.
    Unknown,
    /// The key is deactivated, or the token superseded.
    Deactivated,
    /// The key's expiry has come.
    Expired,
    /// The key is of another project than the request.
    WrongProject,
    /// A client key where only server keys are allowed.
    ClientKeyNotAllowed,
}

impl Verdict {
    /// Every verdict, in the order in which they are decided.
    pub const ALL: [Self; 7] = [
        Self::Valid,
        Self::Malformed,
        Self::Unknown,
        Self::Deactivated,
        Self::Expired,
        Self::WrongProject,
        Self::ClientKeyNotAllowed,
    ];

    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Deactivated => "deactivated",
            Self::Expired => "expired",
            Self::WrongProject => "wrong_project",
            Self::ClientKeyNotAllowed => "client_key_not_allowed",
        }
    }
}

/// How one token stands: the facts that a verdict needs, and no more.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Whether the key is active.
    pub active: bool,
    /// From this instant on (inclusive) the token is superseded.
    pub not_after: Option<Timestamp>,
    /// From this instant on (inclusive) the key is expired.
    pub expire_time: Option<Timestamp>,
    /// The key's project.
    pub project: &'a ProjectId,
    /// The key's platform.
    pub platform: Platform,
}

/// What the request wants of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation<'a> {
    /// The bare id of the project that the request is for; `None`: any project passes.
    pub project: Option<&'a str>,
    /// Whether a client key is good enough.
    pub allow_client_keys: bool,
}

/// Decides on a token that was found. The first reason that applies wins, in the order of [`Verdict::ALL`].
pub fn evaluate(standing: &Standing<'_>, expectation: &Expectation<'_>, now: Timestamp) -> Verdict {
    let reached = |time: Option<Timestamp>| time.is_some_and(|t| now >= t);
    if !standing.active || reached(standing.not_after) {
        Verdict::Deactivated
    } else if reached(standing.expire_time) {
        Verdict::Expired
    } else if expectation.project.is_some_and(|p| p != standing.project.as_str()) {
        Verdict::WrongProject
    } else if standing.platform.is_client() && !expectation.allow_client_keys {
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
        let mut standing = Standing {
            active: true,
            not_after: None,
            expire_time: None,
            project: &project,
            platform: Platform::Server,
        };
        let mut expectation = Expectation { project: Some("6666"), allow_client_keys: false };
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::Valid);
        standing.platform = Platform::Ios;
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::ClientKeyNotAllowed);
        expectation.project = Some("7777");
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::WrongProject);
        standing.expire_time = before;
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::Expired);
        standing.not_after = before;
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::Deactivated);
        standing.not_after = None;
        standing.active = false;
        assert_eq!(evaluate(&standing, &expectation, NOW), Verdict::Deactivated);
    }

    #[test]
    fn expiry_and_supersession_include_their_instant() {
        let project = ProjectId::from_store("6666".to_owned());
        let standing = |time| Standing {
            active: true,
            not_after: None,
            expire_time: Some(Timestamp::from_micros(time)),
            project: &project,
            platform: Platform::Server,
        };
        assert_eq!(evaluate(&standing(1_000), &Expectation::default(), NOW), Verdict::Expired);
        assert_eq!(evaluate(&standing(1_001), &Expectation::default(), NOW), Verdict::Valid);
    }
}
