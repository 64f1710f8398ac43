use std::sync::Arc;

use keyward_domain::{Error, Expectation, Revision};
use keyward_replica::{Answer, AnyClock, NoAnswer, Replica};

use crate::metrics::Metrics;

/// Judges the tokens of all fronts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Validator {
    replica: Arc<Replica<AnyClock>>,
    metrics: Metrics,
}

impl Validator {
    pub(crate) const fn new(replica: Arc<Replica<AnyClock>>, metrics: Metrics) -> Self {
        Self { replica, metrics }
    }

    /// Judges one token. Does not block, lock or log.
    ///
    /// # Errors
    /// `NO_LEASE` or `REVISION_NOT_REACHED`: there is no verdict, and the caller must not assume one.
    pub(crate) fn validate(
        &self,
        token: &str,
        expectation: &Expectation<'_>,
        at_least: Revision,
    ) -> Result<Answer, Error> {
        match self.replica.judge(token, expectation, at_least) {
            Ok(answer) => {
                self.metrics.verdict(answer.verdict);
                Ok(answer)
            }
            Err(no_answer) => {
                self.metrics.unavailable();
                Err(match no_answer {
                    NoAnswer::NoLease => Error::no_lease(),
                    NoAnswer::Behind { reached } => Error::revision_not_reached(at_least, reached),
                })
            }
        }
    }
}
