use keyward_domain::{Revision, Verdict};
use keyward_proto::validate::{self, ValidateTokenResponse};
use keyward_replica::{Answer, NoAnswer};
use tonic::Code;

use crate::api_key::ApiKey;

/// An answer about one token. It holds for the moment at which it was given: never keep it for the next request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validation {
    /// Whether to accept the token, or why not.
    pub verdict: Verdict,
    /// The key; none for MALFORMED and UNKNOWN.
    pub key: Option<ApiKey>,
    /// The revision of the memory that answered.
    pub revision: Revision,
}

/// There is no answer, and nothing may be guessed: refuse the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unavailable {
    /// Whoever was asked may not answer now: it has heard nothing of an admin for longer than its lease.
    #[error("no lease: no admin could be heard for longer than it lasts")]
    NoLease,
    /// No validator could be reached, or none answered in time.
    #[error("no validator answered in time")]
    NoAnswer,
    /// A validator answered with an error of that gRPC code, or with what this client cannot read.
    #[error("the validator's answer was no verdict (gRPC code {0})")]
    NoVerdict(i32),
}

/// What no client of ours can make sense of.
pub(crate) const UNREADABLE: Unavailable = Unavailable::NoVerdict(Code::Internal as i32);

impl Unavailable {
    /// What an error of that code and reason is.
    pub(crate) fn of(code: i32, reason: &str) -> Self {
        match reason {
            "NO_LEASE" => Self::NoLease,
            _ if code == Code::Unavailable as i32 => Self::NoAnswer,
            _ => Self::NoVerdict(code),
        }
    }
}

impl From<NoAnswer> for Unavailable {
    fn from(_: NoAnswer) -> Self {
        // A question of this crate's demands no revision, so a lease is all that can be missing.
        Self::NoLease
    }
}

impl From<Answer> for Validation {
    fn from(answer: Answer) -> Self {
        Self { verdict: answer.verdict, key: answer.key.as_deref().map(ApiKey::from), revision: answer.revision }
    }
}

impl TryFrom<&ValidateTokenResponse> for Validation {
    type Error = Unavailable;

    fn try_from(response: &ValidateTokenResponse) -> Result<Self, Unavailable> {
        let verdict = verdict(response.verdict()).ok_or(UNREADABLE)?;
        let key = match verdict {
            Verdict::Malformed | Verdict::Unknown => None,
            _ => Some(ApiKey::told_by(response).ok_or(UNREADABLE)?),
        };
        Ok(Self { verdict, key, revision: Revision(response.revision) })
    }
}

const fn verdict(told: validate::Verdict) -> Option<Verdict> {
    match told {
        validate::Verdict::Unspecified => None,
        validate::Verdict::Valid => Some(Verdict::Valid),
        validate::Verdict::Malformed => Some(Verdict::Malformed),
        validate::Verdict::Unknown => Some(Verdict::Unknown),
        validate::Verdict::Deactivated => Some(Verdict::Deactivated),
        validate::Verdict::Expired => Some(Verdict::Expired),
        validate::Verdict::WrongProject => Some(Verdict::WrongProject),
        validate::Verdict::ClientKeyNotAllowed => Some(Verdict::ClientKeyNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cannot_be_read_is_none() {
        let valid = ValidateTokenResponse { verdict: 1, ..Default::default() };
        assert_eq!(Validation::try_from(&valid), Err(UNREADABLE), "valid, of no key");
        let unheard_of = ValidateTokenResponse { verdict: 99, ..Default::default() };
        assert_eq!(Validation::try_from(&unheard_of), Err(UNREADABLE));
        assert_eq!(Validation::try_from(&ValidateTokenResponse::default()), Err(UNREADABLE));
    }
}
