use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keyward_domain::Expectation;
use keyward_proto::validate::ValidateTokenRequest;
use keyward_proto::validate::validate_service_client::ValidateServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::address::{ConfigError, Validators};
use crate::validation::{Unavailable, Validation};

/// Attempts per token: the second goes to the next validator. With one validator it goes to the same one, whose connection
/// may have been closed just before the first attempt.
const ATTEMPTS: u32 = 2;

/// Validates each token with a call of its own.
#[derive(Debug)]
pub(crate) struct ByCall {
    validators: Vec<ValidateServiceClient<Channel>>,
    /// Number of the validator to call first, modulo their count: the one that answered last.
    preferred: AtomicUsize,
    /// Time for all attempts of one token.
    timeout: Duration,
    left: AtomicBool,
}

impl ByCall {
    pub(crate) fn new(validators: &Validators) -> Result<Self, ConfigError> {
        let connect = |endpoint: Endpoint| ValidateServiceClient::new(endpoint.connect_lazy());
        Ok(Self {
            timeout: validators.request_timeout(),
            validators: validators.endpoints()?.into_iter().map(connect).collect(),
            preferred: AtomicUsize::new(0),
            left: AtomicBool::new(false),
        })
    }

    pub(crate) async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        if self.left.load(Ordering::Relaxed) {
            return Err(Unavailable::NoAnswer);
        }
        let request = request(token, expectation);
        tokio::time::timeout(self.timeout, self.attempt(&request)).await.unwrap_or(Err(Unavailable::NoAnswer))
    }

    async fn attempt(&self, request: &ValidateTokenRequest) -> Result<Validation, Unavailable> {
        // A validator that hangs must leave time for the next one. A single validator may use all of it.
        let timeout = if self.validators.len() > 1 { self.timeout / ATTEMPTS } else { self.timeout };
        let mut failure = Unavailable::NoAnswer;
        for _ in 0..ATTEMPTS {
            let attempt = Attempt::begin(&self.preferred);
            let called = tokio::time::timeout(timeout, self.call(attempt.validator, request.clone())).await;
            match called.unwrap_or(Err(Unavailable::NoAnswer)) {
                Err(unavailable @ (Unavailable::NoLease | Unavailable::NoAnswer)) => failure = unavailable,
                verdict_or_fault => {
                    attempt.answered();
                    return verdict_or_fault;
                }
            }
        }
        Err(failure)
    }

    async fn call(&self, validator: usize, request: ValidateTokenRequest) -> Result<Validation, Unavailable> {
        let validator = self.validators.get(validator % self.validators.len()).ok_or(Unavailable::NoAnswer)?;
        match validator.clone().validate_token(Request::new(request)).await {
            Ok(response) => Validation::try_from(response.get_ref()),
            Err(status) => Err(failure(&status)),
        }
    }

    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

/// One call to one validator. If dropped unanswered (cancellation included), moves on to the next validator.
struct Attempt<'a> {
    preferred: &'a AtomicUsize,
    validator: usize,
    answered: bool,
}

impl<'a> Attempt<'a> {
    fn begin(preferred: &'a AtomicUsize) -> Self {
        Self { preferred, validator: preferred.load(Ordering::Relaxed), answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Fails if a concurrent attempt has moved on already.
            let next = self.validator.wrapping_add(1);
            let _ = self.preferred.compare_exchange(self.validator, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Classifies an error. A status without ErrorInfo is a transport failure: a validator's own errors have one.
fn failure(status: &Status) -> Unavailable {
    match status.get_details_error_info() {
        Some(info) => Unavailable::of(status.code().into(), &info.reason),
        None => Unavailable::NoAnswer,
    }
}

/// Returns the request to a validator.
pub(crate) fn request(token: &str, expectation: &Expectation<'_>) -> ValidateTokenRequest {
    ValidateTokenRequest {
        token: token.to_owned(),
        project: expectation.project.unwrap_or_default().to_owned(),
        allow_client_keys: expectation.allow_client_keys,
        ..Default::default()
    }
}
