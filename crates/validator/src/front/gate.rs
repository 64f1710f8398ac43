//! One decision for all gateways, whichever protocol they use.

use std::sync::Arc;

use keyward_domain::{Error, Expectation, Presented, Refusal, Revision, TokenSources, Verdict};
use keyward_replica::{Answer, Facts};

use crate::validate::Validator;

/// Request header for the upstream with the key's project, as a bare id.
pub(crate) const PROJECT_HEADER: &str = "x-keyward-project";
/// Request header for the upstream with the key's name within the project.
pub(crate) const KEY_HEADER: &str = "x-keyward-key";

/// Decides whether gateways let requests in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    validator: Validator,
    token_sources: Arc<TokenSources>,
}

/// The decision about a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let the request in, as this key.
    Allow(Arc<Facts>),
    /// Refuse the request.
    Deny(Refusal),
}

/// A decision with its grounds. The gateway's operator may see them; the client may not.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) decision: Decision,
    /// The verdict on the token. `missing` or `ambiguous` if the request has no token or several.
    pub(crate) verdict: &'static str,
    /// The key of the token, whatever the verdict.
    pub(crate) key: Option<Arc<Facts>>,
}

impl Gate {
    pub(crate) fn new(validator: Validator, token_sources: TokenSources) -> Self {
        Self { validator, token_sources: Arc::new(token_sources) }
    }

    /// Where requests carry tokens.
    pub(crate) fn token_sources(&self) -> &TokenSources {
        &self.token_sources
    }

    /// Judges the token of a request, and decides.
    ///
    /// # Errors
    /// `NO_LEASE`: the validator may not decide.
    pub(crate) fn judge(&self, presented: &Presented<'_>, expectation: &Expectation<'_>) -> Result<Judgement, Error> {
        // A request without a token is judged too, as MALFORMED, because a validator without a lease must not decide anything.
        let token = if let Presented::One(token) = presented { token } else { "" };
        let Answer { verdict, key, .. } = self.validator.validate(token, expectation, Revision(0))?;
        let decision = match Refusal::of(presented, verdict) {
            Some(refusal) => Decision::Deny(refusal),
            None => Decision::Allow(key.clone().ok_or_else(|| Error::internal("a valid token without a key"))?),
        };
        Ok(Judgement { decision, verdict: name(presented, verdict), key })
    }
}

fn name(presented: &Presented<'_>, verdict: Verdict) -> &'static str {
    match presented {
        Presented::Nothing => "missing",
        Presented::Ambiguous => "ambiguous",
        Presented::One(_) => verdict.as_str(),
    }
}
