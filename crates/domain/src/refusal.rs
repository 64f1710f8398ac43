//! The answers to requests that are refused. Their sender may be an attacker, so they do not reveal why a token is not
//! accepted.

use crate::token_sources::Presented;
use crate::verdict::Verdict;

/// A refusal in the forms that HTTP, Envoy and Rust services need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The HTTP status: 401, 403 or 503.
    pub status: u16,
    /// Value of the header `www-authenticate` (RFC 6750 §3); with 401 only.
    pub www_authenticate: Option<&'static str>,
    /// Problem details (RFC 9457), of type `application/problem+json`.
    pub body: &'static str,
    /// Message of the gRPC status; equal to the body's `detail`.
    pub message: &'static str,
}

impl Refusal {
    /// The request carries no token. RFC 6750 §3.1 asks for no error code in that case.
    pub const MISSING: Self = Self {
        status: 401,
        www_authenticate: Some("Bearer realm=\"keyward\""),
        body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"no API key; send it once, as authorization: Bearer or x-api-key"}"#,
        message: "no API key; send it once, as authorization: Bearer or x-api-key",
    };

    /// The token is malformed, unknown, deactivated, expired or ambiguous. The sender cannot see which.
    pub const INVALID: Self = Self {
        status: 401,
        www_authenticate: Some("Bearer realm=\"keyward\", error=\"invalid_token\""),
        body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"the API key is not valid"}"#,
        message: "the API key is not valid",
    };

    /// A valid token of another project, or of a client key where only server keys are accepted.
    pub const FORBIDDEN: Self = Self {
        status: 403,
        www_authenticate: None,
        body: r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key may not be used here"}"#,
        message: "the API key may not be used here",
    };

    /// The validator could not answer, so the request is refused.
    pub const UNAVAILABLE: Self = Self {
        status: 503,
        www_authenticate: None,
        body: r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"API keys cannot be validated now"}"#,
        message: "API keys cannot be validated now",
    };

    /// The refusal of a request, given the token that it presents and the verdict on it; `None` if the request is accepted.
    pub const fn of(presented: &Presented<'_>, verdict: Verdict) -> Option<Self> {
        match (presented, verdict) {
            (Presented::Nothing, _) => Some(Self::MISSING),
            (Presented::Ambiguous, _) => Some(Self::INVALID),
            (Presented::One(_), Verdict::Valid) => None,
            (Presented::One(_), Verdict::WrongProject | Verdict::ClientKeyNotAllowed) => Some(Self::FORBIDDEN),
            (Presented::One(_), Verdict::Malformed | Verdict::Unknown | Verdict::Deactivated | Verdict::Expired) => {
                Some(Self::INVALID)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_accepted_only_with_one_valid_token() {
        for verdict in Verdict::ALL {
            for presented in [Presented::Nothing, Presented::Ambiguous, Presented::One("a")] {
                let refusal = Refusal::of(&presented, verdict);
                assert_eq!(refusal.is_none(), (presented, verdict) == (Presented::One("a"), Verdict::Valid));
            }
        }
    }

    #[test]
    fn bodies_repeat_the_status_and_the_message() {
        for refusal in [Refusal::MISSING, Refusal::INVALID, Refusal::FORBIDDEN, Refusal::UNAVAILABLE] {
            assert!(
                refusal.body.contains(&format!("\"status\":{},\"detail\":\"{}\"", refusal.status, refusal.message))
            );
            assert_eq!(refusal.www_authenticate.is_some(), refusal.status == 401);
        }
    }
}
