//! What the outside world is told. Gateways pass it on to whoever sent the request, so it says nothing of why a token
//! is no good.

use std::sync::Arc;

use keyward_domain::{Error, Expectation, Revision, Verdict};
use keyward_replica::Facts;

use crate::front::credential::Presented;
use crate::validate::Validator;

/// The header by which an upstream learns the key's project, as a bare id.
pub(crate) const PROJECT_HEADER: &str = "x-keyward-project";
/// The header by which an upstream learns the key's name within the project.
pub(crate) const KEY_HEADER: &str = "x-keyward-key";

/// A refusal, ready for either HTTP or Envoy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// RFC 6750 §3; with 401 only.
    pub(crate) www_authenticate: Option<&'static str>,
    /// An RFC 9457 problem.
    pub(crate) body: &'static str,
}

/// Nothing was presented: RFC 6750 §3.1 wants no error code then.
const MISSING: Refusal = Refusal {
    status: 401,
    www_authenticate: Some("Bearer realm=\"keyward\""),
    body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"no API key; send it once, as authorization: Bearer or x-api-key"}"#,
};

/// Malformed, unknown, deactivated, expired or ambiguous: all the same to a stranger.
const INVALID: Refusal = Refusal {
    status: 401,
    www_authenticate: Some("Bearer realm=\"keyward\", error=\"invalid_token\""),
    body: r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"the API key is not valid"}"#,
};

const FORBIDDEN: Refusal = Refusal {
    status: 403,
    www_authenticate: None,
    body: r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key may not be used here"}"#,
};

/// No answer could be had. Whoever holds this hook must refuse the request.
pub(crate) const UNAVAILABLE: Refusal = Refusal {
    status: 503,
    www_authenticate: None,
    body: r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"API keys cannot be validated now"}"#,
};

/// Decides on what a request presents: the key, or a refusal.
///
/// # Errors
/// `NO_LEASE`: there is no decision.
pub(crate) fn decide(
    validator: &Validator,
    presented: &Presented<'_>,
    expectation: &Expectation<'_>,
) -> Result<Result<Arc<Facts>, Refusal>, Error> {
    // Also what presents nothing is judged: a validator without a lease decides nothing at all.
    let token = if let Presented::One(token) = presented { token } else { "" };
    let answer = validator.validate(token, expectation, Revision(0))?;
    Ok(match (presented, answer.verdict) {
        (Presented::Nothing, _) => Err(MISSING),
        (Presented::Ambiguous, _) => Err(INVALID),
        (Presented::One(_), Verdict::Valid) => {
            Ok(answer.key.ok_or_else(|| Error::internal("a valid token of no key"))?)
        }
        (Presented::One(_), Verdict::WrongProject | Verdict::ClientKeyNotAllowed) => Err(FORBIDDEN),
        (Presented::One(_), Verdict::Malformed | Verdict::Unknown | Verdict::Deactivated | Verdict::Expired) => {
            Err(INVALID)
        }
    })
}
