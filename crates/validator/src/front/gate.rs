//! One decision for every gateway, whatever it speaks.

use std::sync::Arc;

use keyward_domain::{Error, Expectation, Presented, Refusal, Revision, TokenSources, Verdict};
use keyward_replica::{Answer, Facts};

use crate::validate::Validator;

/// The header by which an upstream learns the key's project, as a bare id.
pub(crate) const PROJECT_HEADER: &str = "x-keyward-project";
/// The header by which an upstream learns the key's name within the project.
pub(crate) const KEY_HEADER: &str = "x-keyward-key";

/// Decides on requests that gateways hold. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    validator: Validator,
    places: Arc<TokenSources>,
}

/// What was decided.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let it in, as this key.
    Allow(Arc<Facts>),
    /// Refuse it.
    Deny(Refusal),
}

/// A decision, with what the gateway's operator may know of it and the client may not.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    /// The verdict; `missing` or `ambiguous` where there was no one token to judge.
    pub(crate) verdict: &'static str,
    /// The key whose token was presented, good or not.
    pub(crate) key: Option<Arc<Facts>>,
}

impl Gate {
    pub(crate) fn new(validator: Validator, places: TokenSources) -> Self {
        Self { validator, places: Arc::new(places) }
    }

    /// Where requests carry tokens.
    pub(crate) fn places(&self) -> &TokenSources {
        &self.places
    }

    /// Decides on what a request presents.
    ///
    /// # Errors
    /// `NO_LEASE`: there is no decision.
    pub(crate) fn decide(&self, presented: &Presented<'_>, expectation: &Expectation<'_>) -> Result<Decided, Error> {
        // Also what presents nothing is judged: a validator without a lease decides nothing at all.
        let token = if let Presented::One(token) = presented { token } else { "" };
        let Answer { verdict, key, .. } = self.validator.validate(token, expectation, Revision(0))?;
        let decision = match Refusal::of(presented, verdict) {
            Some(refusal) => Decision::Deny(refusal),
            None => Decision::Allow(key.clone().ok_or_else(|| Error::internal("a valid token of no key"))?),
        };
        Ok(Decided { decision, verdict: name(presented, verdict), key })
    }
}

fn name(presented: &Presented<'_>, verdict: Verdict) -> &'static str {
    match presented {
        Presented::Nothing => "missing",
        Presented::Ambiguous => "ambiguous",
        Presented::One(_) => verdict.as_str(),
    }
}
