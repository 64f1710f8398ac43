//! What the outside world is told when it is not let in. Whoever sent the request reads it, so it says nothing of why a
//! token is no good.

use crate::presented::Presented;
use crate::verdict::Verdict;

/// A refusal, ready for HTTP, Envoy or a Rust service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The HTTP status: 401, 403 or 503.
    pub status: u16,
    /// RFC 6750 §3; with 401 only.
    pub www_authenticate: Option<&'static str>,
    /// An RFC 9457 problem, of type `application/problem+json`.
    pub body: &'static str,
    /// The same for a gRPC client, in words.
    pub message: &'static str,
}

impl Refusal {
    /// Nothing was presented: RFC 6750 §3.1 wants no error code then.
    pub const MISSING: Self = Self {
        status: 401,
        www_authenticate: Some("Bearer realm=\"keyward\""),
        body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"no API key; send it once, as authorization: Bearer or x-api-key"}"#,
        message: "no API key; send it once, as authorization: Bearer or x-api-key",
    };

    /// Malformed, unknown, deactivated, expired or ambiguous: all the same to a stranger.
    pub const INVALID: Self = Self {
        status: 401,
        www_authenticate: Some("Bearer realm=\"keyward\", error=\"invalid_token\""),
        body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"the API key is not valid"}"#,
        message: "the API key is not valid",
    };

    /// A good key of another project, or a client key where only server keys go.
    pub const FORBIDDEN: Self = Self {
        status: 403,
        www_authenticate: None,
        body: r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key may not be used here"}"#,
        message: "the API key may not be used here",
    };

    /// No answer could be had. The request must be refused.
    pub const UNAVAILABLE: Self = Self {
        status: 503,
        www_authenticate: None,
        body: r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"API keys cannot be validated now"}"#,
        message: "API keys cannot be validated now",
    };

    /// What a request is refused with, given what it presents and the verdict on that; `None`: let it in.
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
    fn only_one_valid_token_is_let_in() {
        for verdict in Verdict::ALL {
            for presented in [Presented::Nothing, Presented::Ambiguous, Presented::One("a")] {
                let refusal = Refusal::of(&presented, verdict);
                assert_eq!(refusal.is_none(), (presented, verdict) == (Presented::One("a"), Verdict::Valid));
            }
        }
    }

    #[test]
    fn bodies_say_their_own_status_and_message() {
        for refusal in [Refusal::MISSING, Refusal::INVALID, Refusal::FORBIDDEN, Refusal::UNAVAILABLE] {
            assert!(
                refusal.body.contains(&format!("\"status\":{},\"detail\":\"{}\"", refusal.status, refusal.message))
            );
            assert_eq!(refusal.www_authenticate.is_some(), refusal.status == 401);
        }
    }
}
