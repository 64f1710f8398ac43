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

/// A question may be put twice: to the next validator, or once more to the one there is, whose connection may have been
/// closed just then.
const TRIES: u32 = 2;

/// Asks by a call for each token.
#[derive(Debug)]
pub(crate) struct ByCall {
    validators: Vec<ValidateServiceClient<Channel>>,
    /// Which of them is asked first: the one that answered last.
    turn: AtomicUsize,
    patience: Duration,
    left: AtomicBool,
}

impl ByCall {
    pub(crate) fn new(validators: &Validators) -> Result<Self, ConfigError> {
        let connect = |endpoint: Endpoint| ValidateServiceClient::new(endpoint.connect_lazy());
        Ok(Self {
            patience: validators.patience(),
            validators: validators.endpoints()?.into_iter().map(connect).collect(),
            turn: AtomicUsize::new(0),
            left: AtomicBool::new(false),
        })
    }

    pub(crate) async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        if self.left.load(Ordering::Relaxed) {
            return Err(Unavailable::NoAnswer);
        }
        let request = request(token, expectation);
        tokio::time::timeout(self.patience, self.try_twice(&request)).await.unwrap_or(Err(Unavailable::NoAnswer))
    }

    async fn try_twice(&self, request: &ValidateTokenRequest) -> Result<Validation, Unavailable> {
        // One that hangs leaves time for another; alone, it may use all of it.
        let patience = if self.validators.len() > 1 { self.patience / TRIES } else { self.patience };
        let mut failure = Unavailable::NoAnswer;
        for _ in 0..TRIES {
            let turn = Turn { of: &self.turn, asked: self.turn.load(Ordering::Relaxed), answered: false };
            let asked = tokio::time::timeout(patience, self.ask(turn.asked, request.clone())).await;
            match asked.unwrap_or(Err(Unavailable::NoAnswer)) {
                Err(unavailable @ (Unavailable::NoLease | Unavailable::NoAnswer)) => failure = unavailable,
                verdict_or_fault => {
                    turn.answered();
                    return verdict_or_fault;
                }
            }
        }
        Err(failure)
    }

    async fn ask(&self, turn: usize, request: ValidateTokenRequest) -> Result<Validation, Unavailable> {
        let validator = self.validators.get(turn % self.validators.len()).ok_or(Unavailable::NoAnswer)?;
        match validator.clone().validate_token(Request::new(request)).await {
            Ok(response) => Validation::try_from(response.get_ref()),
            Err(status) => Err(failure(&status)),
        }
    }

    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

/// One question to one validator. Dropped without an answer, also because whoever asked would not wait so long, it leaves
/// the next question to the next validator.
struct Turn<'a> {
    of: &'a AtomicUsize,
    asked: usize,
    answered: bool,
}

impl Turn<'_> {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Unless somebody else has moved on from it already.
            let next = self.asked.wrapping_add(1);
            let _ = self.of.compare_exchange(self.asked, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// A validator's own errors say their reason; what has none is of the way there.
fn failure(status: &Status) -> Unavailable {
    match status.get_details_error_info() {
        Some(info) => Unavailable::of(status.code().into(), &info.reason),
        None => Unavailable::NoAnswer,
    }
}

/// The question as it goes over the wire.
pub(crate) fn request(token: &str, expectation: &Expectation<'_>) -> ValidateTokenRequest {
    ValidateTokenRequest {
        token: token.to_owned(),
        project: expectation.project.unwrap_or_default().to_owned(),
        allow_client_keys: expectation.allow_client_keys,
        ..Default::default()
    }
}
