use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Expectation, ProjectId, Revision, Verdict};
use tonic::Code;

use crate::address::{Admins, ConfigError, Validators};
use crate::by_call::ByCall;
use crate::by_stream::ByStream;
use crate::embedded::Embedded;
use crate::validation::{UNREADABLE, Unavailable, Validation};

/// The longest text that can be a token, in bytes. Longer ones are not carried anywhere.
const LONGEST_TOKEN: usize = 64;

/// How long [`Client::ready`] waits before it looks again: at first, and at most.
const SOON: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_millis(100);

/// Judges tokens, in one of three ways. Cheap to clone; clones share connections, streams and memory.
#[derive(Clone, Debug)]
pub struct Client(Mode);

#[derive(Clone, Debug)]
enum Mode {
    ByCall(Arc<ByCall>),
    ByStream(Arc<ByStream>),
    Embedded(Arc<Embedded>),
}

impl Client {
    /// Asks a validator anew about each token: simplest, and a round trip of a whole call each. Connects when first asked.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn by_call(validators: &Validators) -> Result<Self, ConfigError> {
        in_a_runtime()?;
        Ok(Self(Mode::ByCall(Arc::new(ByCall::new(validators)?))))
    }

    /// Asks a validator down one stream that stays open: cheaper for each token than a call.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn by_stream(validators: &Validators) -> Result<Self, ConfigError> {
        in_a_runtime()?;
        Ok(Self(Mode::ByStream(Arc::new(ByStream::start(validators)?))))
    }

    /// Keeps a replica of all keys in this process, as a validator does, and asks nobody: no hop at all. It is held by the
    /// same lease, so it has no answers once it has heard nothing of an admin for longer than that; and deactivations wait
    /// for it, so let it [`leave`](Self::leave) before the process ends.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is sent.
    pub fn embedded(admins: &Admins) -> Result<Self, ConfigError> {
        in_a_runtime()?;
        Ok(Self(Mode::Embedded(Arc::new(Embedded::start(admins)?))))
    }

    /// Judges one token. The expectation's project is a bare id, as `6666`; with `None` a key of ANY project passes. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`Unavailable`]: there is no answer. Refuse the request; never guess.
    pub async fn validate(&self, token: &str, expectation: &Expectation<'_>) -> Result<Validation, Unavailable> {
        let project = expectation.project.map(ProjectId::check);
        // On the wire an empty project means any: no variable that happens to be empty may open a route to all.
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

    /// Waits until there are answers: for ever, if there never are, so bound it with a timeout. Cancel safe.
    pub async fn ready(&self) {
        let mut wait = SOON;
        // The empty text is MALFORMED to whoever may answer.
        while self.validate("", &Expectation::default()).await.is_err() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(SELDOM);
        }
    }

    /// Stops answering, for all clones. An embedded replica says Goodbye to its admin, which then waits for it no longer;
    /// one that is merely dropped, or whose process dies, makes the next deactivations wait for the end of its lease.
    pub async fn leave(&self) {
        match &self.0 {
            Mode::ByCall(mode) => mode.leave(),
            Mode::ByStream(mode) => mode.leave(),
            Mode::Embedded(mode) => mode.leave().await,
        }
    }
}

/// tonic and the tasks in the background need one.
fn in_a_runtime() -> Result<(), ConfigError> {
    tokio::runtime::Handle::try_current().map(|_| ()).map_err(|_| ConfigError::NoRuntime)
}
