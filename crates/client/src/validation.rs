use keyward_domain::{Revision, Verdict};
use keyward_proto::validate::{self, ValidateTokenResponse};
use keyward_replica::{Answer, NoAnswer};
use tonic::Code;

use crate::api_key::ApiKey;

/// The verdict on one token. It holds only at the moment of the validation, so do not cache it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validation {
    /// Accept the token, or why not.
    pub verdict: Verdict,
    /// The key of the token. `None` for MALFORMED and UNKNOWN.
    pub key: Option<ApiKey>,
    /// The revision of the replica that answered.
    pub revision: Revision,
}

/// There is no verdict. Refuse the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unavailable {
    /// The validator, or the embedded replica, has no lease: it had no contact with an admin for the duration of its lease.
    #[error("no lease: no admin was reachable for its duration")]
    NoLease,
    /// No validator could be reached, or none answered in time.
    #[error("no validator answered in time")]
    NoAnswer,
    /// A validator answered with an error of this gRPC code, or with a message that this client cannot parse.
    #[error("the validator's answer has no verdict (gRPC code {0})")]
    NoVerdict(i32),
}

/// An answer that this client cannot parse.
pub(crate) const UNREADABLE: Unavailable = Unavailable::NoVerdict(Code::Internal as i32);

impl Unavailable {
    /// Classifies an error by its gRPC code and reason.
    pub(crate) fn of(code: i32, reason: &str) -> Self {
        match reason {
            "NO_LEASE" => Self::NoLease,
            // Another validator may have the memory that an overloaded one lacks.
            "OVERLOADED" => Self::NoAnswer,
            _ if code == Code::Unavailable as i32 => Self::NoAnswer,
            _ => Self::NoVerdict(code),
        }
    }
}

impl From<NoAnswer> for Unavailable {
    fn from(_: NoAnswer) -> Self {
        // This crate never requires a revision, so a missing lease is the only cause.
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
            _ => Some(ApiKey::from_response(response).ok_or(UNREADABLE)?),
        };
        Ok(Self { verdict, key, revision: Revision(response.revision) })
    }
}

const fn verdict(verdict: validate::Verdict) -> Option<Verdict> {
    match verdict {
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
    fn a_malformed_answer_is_no_verdict() {
        let valid = ValidateTokenResponse { verdict: 1, ..Default::default() };
        assert_eq!(Validation::try_from(&valid), Err(UNREADABLE), "valid, without a key");
        let unknown = ValidateTokenResponse { verdict: 99, ..Default::default() };
        assert_eq!(Validation::try_from(&unknown), Err(UNREADABLE));
        assert_eq!(Validation::try_from(&ValidateTokenResponse::default()), Err(UNREADABLE));
    }
}
