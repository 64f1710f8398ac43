use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Expectation, ProjectId, Revision, Verdict};
use tonic::Code;

use crate::address::{Admins, ConfigError, Validators};
use crate::by_call::ByCall;
use crate::by_stream::ByStream;
use crate::embedded::Embedded;
use crate::validation::{UNREADABLE, Unavailable, Validation};

/// Longest token, in bytes. A longer text is MALFORMED without asking a validator.
const LONGEST_TOKEN: usize = 64;

/// First and longest interval at which [`Client::ready`] polls. It doubles in between.
const FIRST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(100);

/// Validates tokens, in one of three ways. Cheap to clone; clones share connections, streams and memory.
#[derive(Clone, Debug)]
pub struct Client(Mode);

#[derive(Clone, Debug)]
enum Mode {
    ByCall(Arc<ByCall>),
    ByStream(Arc<ByStream>),
    Embedded(Arc<Embedded>),
}

impl Client {
    /// Calls a validator for each token. The simplest way; it costs a round trip per token. Connects at the first token.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn by_call(validators: &Validators) -> Result<Self, ConfigError> {
        check_runtime()?;
        Ok(Self(Mode::ByCall(Arc::new(ByCall::new(validators)?))))
    }

    /// Validates all tokens over one open stream to a validator. Cheaper per token than a call.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn by_stream(validators: &Validators) -> Result<Self, ConfigError> {
        check_runtime()?;
        Ok(Self(Mode::ByStream(Arc::new(ByStream::start(validators)?))))
    }

    /// Keeps a replica of all keys in this process, as a validator does, so that a validation makes no call. The rules for
    /// validators apply: without an admin, the replica stops answering when its lease expires; and deactivations wait for it,
    /// so call [`leave`](Self::leave) before the process ends.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn embedded(admins: &Admins) -> Result<Self, ConfigError> {
        check_runtime()?;
        Ok(Self(Mode::Embedded(Arc::new(Embedded::start(admins)?))))
    }

    /// Validates one token. The expectation's project is a bare id, such as `6666`; with `None` a key of ANY project passes.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Unavailable`]: there is no verdict. Refuse the request.
    pub async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        let project = expectation.project.map(ProjectId::check);
        // On the wire an empty project means any project. Reject it here: an empty variable must not open a route to all keys.
        let project = project.transpose().map_err(|_| Unavailable::NoVerdict(Code::InvalidArgument.into()))?;
        let validation = self.judge(token, expectation).await?;
        match (&validation.key, project) {
            (Some(key), Some(project)) if validation.verdict == Verdict::Valid && key.project() != project => {
                Err(UNREADABLE)
            }
            _ => Ok(validation),
        }
    }

    async fn judge(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        if token.len() > LONGEST_TOKEN {
            return Ok(Validation { verdict: Verdict::Malformed, key: None, revision: Revision(0) });
        }
        match &self.0 {
            Mode::ByCall(mode) => mode.validate(token, expectation).await,
            Mode::ByStream(mode) => mode.validate(token, expectation).await,
            Mode::Embedded(mode) => mode.validate(token, expectation),
        }
    }

    /// Waits until tokens can be validated. May wait for ever, so set a timeout. Cancel safe.
    pub async fn ready(&self) {
        let mut wait = FIRST_POLL;
        // The empty token gets the verdict MALFORMED once there are answers.
        while self.validate("", &Expectation::default()).await.is_err() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_POLL);
        }
    }

    /// Stops validating, for all clones. An embedded replica sends Goodbye, after which deactivations do not wait for it. If the
    /// client is only dropped, or the process dies, the next deactivations wait until its lease expires.
    pub async fn leave(&self) {
        match &self.0 {
            Mode::ByCall(mode) => mode.leave(),
            Mode::ByStream(mode) => mode.leave(),
            Mode::Embedded(mode) => mode.leave().await,
        }
    }
}

/// Checks for a tokio runtime, which tonic and the background tasks need.
fn check_runtime() -> Result<(), ConfigError> {
    tokio::runtime::Handle::try_current().map(|_| ()).map_err(|_| ConfigError::NoRuntime)
}
